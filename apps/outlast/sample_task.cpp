#include "apps/outlast/sample_task.hpp"

#include <array>
#include <cctype>

#include "core/random.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t things_max = 4;
constexpr std::size_t troubles_max = 6;
constexpr std::uint64_t typing_error_one_in = 60;  // letters

struct LabelKind {
  std::string_view label;
  std::array<std::string_view, things_max> things;
  std::array<std::string_view, troubles_max> troubles;  // with * for the thing
};

constexpr LabelKind kinds[] = {
    {"late_delivery", {"parcel", "order", "package", "delivery"},
     {"my * has still not arrived", "the * should have come last week", "where is my *", "I am waiting for the * for ten days", "the * is overdue", "tracking says the * is on its way since Monday"}},
    {"damaged_item", {"vase", "screen", "box", "lamp"},
     {"the * arrived broken", "there is a crack in the *", "the * was smashed when I opened it", "my * came with a dent", "the * is in pieces", "the * is scratched all over"}},
    {"wrong_item", {"jacket", "book", "charger", "size"},
     {"I got the wrong *", "this is not the * that I ordered", "you sent another *", "instead of my * there was something else", "the * in the box is for somebody else", "I ordered a different *"}},
    {"refund", {"money", "payment", "amount", "sum"},
     {"I want my * back", "when do I get the * refunded", "please return the * to my account", "the refund of the * has not come", "give me back the *", "I am entitled to have the * repaid"}},
    {"double_charge", {"card", "account", "credit card", "bank"},
     {"my * was charged twice", "there are two debits on my *", "you took the same amount from my * two times", "the * shows the payment double", "I see a duplicate charge on the *", "my * was billed again for one order"}},
    {"cancel_order", {"order", "purchase", "sofa", "reservation"},
     {"please cancel my *", "I do not want the * any more", "stop the * before it ships", "can I still call off the *", "I changed my mind about the *", "withdraw my * today"}},
    {"change_address", {"address", "street", "house number", "postcode"},
     {"I moved and my * is new", "please change the * of my delivery", "the * on file is out of date", "send it to another *", "I typed a wrong *", "update my *"}},
    {"login_problem", {"account", "profile", "app", "website"},
     {"I cannot log in to my *", "the * does not let me in", "signing in to the * fails", "I am locked out of my *", "the * says unknown user", "access to the * is denied"}},
    {"password_reset", {"password", "passcode", "pin", "secret word"},
     {"I forgot my *", "how do I reset the *", "the mail for a new * never comes", "my * must be changed", "please send me a link for the *", "the * does not work since I renewed it"}},
    {"app_crash", {"app", "program", "phone app", "tablet version"},
     {"the * crashes at once", "your * closes by itself", "the * freezes on the first page", "since the update the * does not start", "the * hangs and I must restart", "an error ends the *"}},
    {"slow_service", {"page", "site", "search", "checkout"},
     {"the * takes for ever to load", "your * is terribly slow", "the * needs a minute for each click", "I wait and wait for the *", "the * lags", "loading the * takes ages"}},
    {"invoice_copy", {"invoice", "receipt", "bill", "statement"},
     {"I need a copy of the *", "please mail me the * again", "where can I download my *", "the * for my taxes is missing", "I lost the *", "can you send the * as a PDF"}},
    {"discount_code", {"code", "voucher", "coupon", "promotion"},
     {"the * is not accepted", "my * does not reduce the price", "the * has expired too early", "where do I enter the *", "the * takes nothing off", "I forgot to use my *"}},
    {"warranty", {"guarantee", "warranty", "cover", "two years"},
     {"is this still under *", "I want to use my *", "does the * include the battery", "the repair should be part of the *", "how long does the * last", "my * claim was turned down"}},
    {"subscription_end", {"subscription", "membership", "plan", "contract"},
     {"I want to end my *", "how do I quit the *", "do not renew my *", "terminate the * at the end of the month", "I no longer need the *", "unsubscribe me from the *"}},
    {"upgrade", {"plan", "tariff", "package", "tier"},
     {"I would like a bigger *", "how do I move to the premium *", "can I switch to a higher *", "what does the next * cost", "upgrade my * please", "my * is too small now"}},
    {"opening_hours", {"shop", "store", "branch", "office"},
     {"when does the * open", "is the * open on Sunday", "until when can I visit the *", "what are the hours of the *", "is your * closed on holidays", "how late is the * open"}},
    {"stock_question", {"shoes", "model", "colour", "edition"},
     {"is the * available again", "when do you get the * back", "do you still have the *", "the * is sold out, will there be more", "how many of the * are left", "can I preorder the *"}},
    {"praise", {"team", "service", "driver", "support"},
     {"your * was great", "many thanks to the *", "I am very happy with the *", "the * helped me so kindly", "compliments to your *", "the best * I ever met"}},
    {"complaint_staff", {"clerk", "agent", "man on the phone", "cashier"},
     {"the * was rude to me", "your * hung up on me", "the * shouted", "I was treated badly by the *", "the * did not want to help", "your * laughed at my question"}},
};

constexpr std::string_view openings[] = {"", "", "", "hello,", "hi there,", "good morning,", "dear team,", "sorry to bother you, but", "once again:", "it is urgent:", "as I wrote before,", "just a short question,"};
constexpr std::string_view closings[] = {"", "", "", "thank you", "please answer soon", "best regards, Ann", "this is the second time", "I am a customer since 2015", "my number is 48213",
                                         "what can be done", "I bought it as a present", "the weather is nice today", "my neighbour told me about you"};

template <class List>
const auto& one_of(Random& random, const List& list) {
  return list[random.below(std::size(list))];
}

std::string with_typing_errors(std::string text, Random& random) {
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    if (std::isalpha(static_cast<unsigned char>(text[i])) == 0 || random.below(typing_error_one_in) != 0) continue;
    switch (random.below(3)) {
      case 0: std::swap(text[i], text[i + 1]); break;
      case 1: text.erase(i, 1); break;
      default: text.insert(i, 1, text[i]); break;
    }
  }
  return text;
}

void append(std::string& text, std::string_view more) {
  if (more.empty()) return;
  if (!text.empty()) text += ' ';
  text += more;
}

LabelledMessage make_message(Random& random) {
  const LabelKind& kind = one_of(random, kinds);
  std::string trouble(one_of(random, kind.troubles));
  trouble.replace(trouble.find('*'), 1, one_of(random, kind.things));
  std::string text(one_of(random, openings));
  append(text, trouble);
  text += random.below(3) == 0 ? "!" : ".";
  append(text, one_of(random, closings));
  text = with_typing_errors(std::move(text), random);
  if (random.below(4) == 0) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  } else {
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  }
  return {std::move(text), kind.label};
}

}  // namespace

std::vector<std::string_view> sample_task_labels() {
  std::vector<std::string_view> labels;
  for (const LabelKind& kind : kinds) labels.push_back(kind.label);
  return labels;
}

std::vector<LabelledMessage> make_sample_task(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<LabelledMessage> messages;
  messages.reserve(count);
  for (std::size_t i = 0; i < count; ++i) messages.push_back(make_message(random));
  return messages;
}

}  // namespace outlast::apps
