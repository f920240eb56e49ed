// The batches of spend that nodes tell each other. Keys and texts stand once in a batch: most events repeat them.
#include <string_view>
#include <unordered_map>

#include "core/request_labels.hpp"
#include "proto/ask_wire.hpp"

namespace outlast::ask {
namespace {

// Texts of a batch, each once, by their places from 1.
class TextTable {
 public:
  std::uint16_t place(std::string_view text) {
    if (text.empty()) return 0;
    const auto [at, added] = places_.try_emplace(text, static_cast<std::uint16_t>(texts_.size() + 1));
    if (added) texts_.push_back(text);
    at_most(texts_.size(), spend_texts_max, "texts of a batch");
    return at->second;
  }
  [[nodiscard]] const std::vector<std::string_view>& texts() const { return texts_; }

 private:
  std::unordered_map<std::string_view, std::uint16_t> places_;
  std::vector<std::string_view> texts_;
};

void write(const SpendItem& item, std::uint16_t key, TextTable& texts, schema::SpendEvent::Builder out) {
  at_most(item.tags.size(), tags_max, "tags");
  out.setKey(key);
  out.setSession(texts.place(item.session));
  out.setProvider(texts.place(item.provider));
  out.setModel(texts.place(item.model));
  out.setEnded(item.ended);
  if (!item.tags.empty()) {
    auto tags = out.initTags(count_of(item.tags.size()));
    for (unsigned i = 0; i < tags.size(); ++i) tags.set(i, texts.place(item.tags[i]));
  }
  out.setConversation(item.conversation);
  out.setRequest(item.request);
  out.setCostHigh(static_cast<std::int64_t>(item.cost.value >> 64));
  out.setCostLow(static_cast<std::uint64_t>(item.cost.value));
  out.setAgeMs(item.age_ms);
  out.setDurationMs(item.duration_ms);
}

const std::string& text_at(const std::vector<std::string>& texts, std::uint16_t place) {
  static const std::string none;
  if (place == 0) return none;
  if (place > texts.size()) throw Refused{FrameError::malformed, "an event names a text that is not there"};
  return texts[place - 1];
}

SpendItem read(schema::SpendEvent::Reader in, const std::vector<std::shared_ptr<const VirtualKey>>& keys,
               const std::vector<std::string>& texts) {
  if (in.getKey() >= keys.size()) throw Refused{FrameError::malformed, "an event names a key that is not there"};
  SpendItem item;
  item.key = keys[in.getKey()];
  const auto tags = in.getTags();
  at_most(tags.size(), tags_max, "tags");
  item.tags.reserve(tags.size());
  for (const std::uint16_t tag : tags) item.tags.push_back(text_at(texts, tag));
  item.session = text_at(texts, in.getSession());
  item.provider = text_at(texts, in.getProvider());
  item.model = text_at(texts, in.getModel());
  item.conversation = in.getConversation();
  item.request = in.getRequest();
  item.cost.value = static_cast<__int128>(static_cast<unsigned __int128>(in.getCostHigh()) << 64 | in.getCostLow());
  item.age_ms = in.getAgeMs();
  item.duration_ms = in.getDurationMs();
  item.ended = in.getEnded();
  return item;
}

}  // namespace

void write(const SpendBatch& batch, schema::SpendBatch::Builder out) {
  at_most(batch.events.size(), spend_events_max, "events of spend");
  out.setFirst(batch.first);
  TextTable texts;
  std::unordered_map<const VirtualKey*, std::uint16_t> places;
  std::vector<const VirtualKey*> keys;
  auto events = out.initEvents(count_of(batch.events.size()));
  for (unsigned i = 0; i < events.size(); ++i) {
    const VirtualKey* key = batch.events[i].key.get();
    const auto [at, added] = places.try_emplace(key, static_cast<std::uint16_t>(keys.size()));
    if (added) keys.push_back(key);
    write(batch.events[i], at->second, texts, events[i]);
  }
  auto named = out.initKeys(count_of(keys.size()));
  for (unsigned i = 0; i < named.size(); ++i) {
    named[i].setId(texts.place(keys[i]->id));
    named[i].setOrganisation(texts.place(keys[i]->tenant.organisation));
    named[i].setTeam(texts.place(keys[i]->tenant.team));
    named[i].setUser(texts.place(keys[i]->tenant.user));
  }
  auto said = out.initTexts(count_of(texts.texts().size()));
  for (unsigned i = 0; i < said.size(); ++i) {
    at_most(texts.texts()[i].size(), name_bytes_max, "bytes of a name");
    said.set(i, text_of(texts.texts()[i]));
  }
}

SpendBatch read_spend(schema::SpendBatch::Reader in) {
  const auto named = in.getKeys();
  const auto said = in.getTexts();
  const auto events = in.getEvents();
  at_most(events.size(), spend_events_max, "events of spend");
  at_most(named.size(), spend_events_max, "keys of a batch");
  at_most(said.size(), spend_texts_max, "texts of a batch");
  std::vector<std::string> texts;
  texts.reserve(said.size());
  for (const auto text : said) texts.push_back(read_name(text));
  std::vector<std::shared_ptr<const VirtualKey>> keys;
  keys.reserve(named.size());
  for (const auto one : named) {
    auto key = std::make_shared<VirtualKey>();
    key->id = text_at(texts, one.getId());
    key->tenant = {text_at(texts, one.getOrganisation()), text_at(texts, one.getTeam()), text_at(texts, one.getUser())};
    keys.push_back(std::move(key));
  }
  SpendBatch batch;
  batch.first = in.getFirst();
  batch.events.reserve(events.size());
  for (const auto event : events) batch.events.push_back(read(event, keys, texts));
  return batch;
}

}  // namespace outlast::ask
