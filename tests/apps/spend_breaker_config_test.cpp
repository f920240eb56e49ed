#include "apps/config/spend_breaker_config.hpp"

#include <catch2/catch.hpp>

#include "tests/apps/config_files.hpp"

namespace spend_breaker_config_test {

using namespace outlast;
using namespace outlast::apps;
using outlast::tests::errors_after_node;
using outlast::tests::Folder;
using outlast::tests::node_lines;

namespace {

constexpr PicoUsd dollar{1'000'000'000'000};

// Errors of one [[breaker]] on lines 4 and on.
std::string errors_of_rule(const std::string& lines) { return errors_after_node("[[breaker]]\n" + lines); }

}  // namespace

TEST_CASE("rules, links and whom to tell are read as they stand", "[config][spend_breaker]") {
  const Folder folder;
  folder.write("hook.secret", "s3cret-from-a-file\n");
  const auto config = load_node_config(folder.write("node.toml", std::string(node_lines) + R"(
[breakers]
link_base = "https://ops.example/outlast/"
notify = { url = "https://hooks.example/a/b?team=ops", secret = { file = "hook.secret" }, timeout_ms = 700, attempts_max = 3 }
command = ["/usr/local/bin/page", "--ops"]

[[breaker]]
name = "window"
scope = "user:*"
window = { amount_usd = "50", window_s = 3600 }

[[breaker]]
name = "rate"
scope = "team:acme/search"
rate = { factor = 10, min_amount_usd = "0.5", history = 30, sample_s = 10 }
action = "throttle"
requests_per_minute = 6
half_open_after_s = 600
half_open_requests = 3
notify = { url = "http://127.0.0.1:1", secret = { file = "hook.secret" } }
)"));
  REQUIRE(config);
  const gateway::SpendConfig& breakers = config->breakers;
  CHECK(breakers.link_base == "https://ops.example/outlast");
  REQUIRE(breakers.notify.webhook);
  CHECK(breakers.notify.webhook->origin.host == "hooks.example");
  CHECK(breakers.notify.webhook->origin.path_prefix + breakers.notify.webhook->path == "/a/b?team=ops");
  CHECK(breakers.notify.webhook->secret == "s3cret-from-a-file");
  CHECK(breakers.notify.webhook->timeout_ms == 700);
  CHECK(breakers.notify.command == std::vector<std::string>{"/usr/local/bin/page", "--ops"});
  REQUIRE(breakers.rules.size() == 2);
  SpendBreakerRule window;
  window.name = "window";
  window.scope = {ScopeKind::user, ""};
  window.limit = SpendWindowLimit{dollar * 50, 3'600};
  CHECK(breakers.rules[0] == gateway::SpendFileRule{window, std::nullopt});
  SpendBreakerRule rate;
  rate.name = "rate";
  rate.scope = {ScopeKind::team, "acme/search"};
  rate.limit = SpendRateLimit{10, {500'000'000'000}, 30, 10};
  rate.action = SpendAction::throttle;
  rate.requests_per_minute = 6;
  rate.half_open_after_s = 600;
  rate.half_open_requests = 3;
  CHECK(breakers.rules[1].rule == rate);
  REQUIRE(breakers.rules[1].notify);
  CHECK(breakers.rules[1].notify->webhook->path == "/");
}

TEST_CASE("mistakes in spend breakers are named by line and key", "[config][spend_breaker]") {
  CHECK_THAT(errors_of_rule(""), Catch::Contains("FILE:4: key 'breaker.name': is missing; write e.g. name = \"daily-per-user\"") &&
                                     Catch::Contains("FILE:4: key 'breaker.scope': is missing") &&
                                     Catch::Contains("FILE:4: key 'breaker': has no limit; write one of window = {"));
  const std::string head = "name = \"n\"\nscope = \"key:*\"\n";  // lines 5 and 6
  const auto says = [&head](const std::string& lines, const std::string& text) {
    const std::string errors = errors_of_rule(head + lines);
    INFO(errors);
    CHECK(errors.find("FILE:7: key 'breaker" + text) != std::string::npos);
  };
  says("window = { amount_usd = 5, window_s = 60 }", ".window.amount_usd': is an integer; write a string in quotes");
  says("window = { amount_usd = \"-5\", window_s = 60 }", ".window.amount_usd': is not more than nothing");
  says("window = { amount_usd = \"0.0000000000001\", window_s = 60 }", ".window.amount_usd': ");
  says("window = { amount_usd = \"99999999999999999999999999999999999999999999\", window_s = 60 }", ".window.amount_usd': ");
  says("window = { amount_usd = \"5\" }", ".window.window_s': is missing; write e.g. window_s = 3600");
  says("window = { amount_usd = \"5\", window_s = 0 }", ".window.window_s': 0 is out of range");
  says("window = { amount_usd = \"5\", window_s = 60, per = \"day\" }", ".window.per': is not known");
  says("rate = { factor = 1, min_amount_usd = \"1\" }", ".rate.factor': 1 is out of range");
  says("rate = { factor = 2 }", ".rate.min_amount_usd': is missing");
  says("session = { idle_gap_s = 5 }", ".session': limits nothing");
  says("repeats = { count = 1, window_s = 5 }", ".repeats.count': 1 is out of range");
  CHECK_THAT(errors_of_rule(head + "repeats = { count = 2, window_s = 5 }\naction = \"stop\"\n"),
             Catch::Contains("FILE:8: key 'breaker.action': 'stop' is not known; write one of notify, throttle, hold"));
  CHECK_THAT(errors_of_rule(head + "repeats = { count = 2, window_s = 5 }\nwindow = { amount_usd = \"5\", window_s = 60 }\n"),
             Catch::Contains("key 'breaker.repeats': is a second limit of this rule"));
  CHECK_THAT(errors_of_rule(head + "repeats = { count = 2, window_s = 5 }\naction = \"throttle\"\n"),
             Catch::Contains("key 'breaker.requests_per_minute': is missing"));
  CHECK_THAT(errors_of_rule(head + "repeats = { count = 2, window_s = 5 }\nrequests_per_minute = 5\n"),
             Catch::Contains("FILE:8: key 'breaker.requests_per_minute': belongs to action = \"throttle\" only"));
  CHECK_THAT(errors_of_rule("name = \"n\"\nscope = \"planet:*\"\nrepeats = { count = 2, window_s = 5 }\n"),
             Catch::Contains("FILE:6: key 'breaker.scope': 'planet:*' is no scope"));
  const std::string rule = "[[breaker]]\n" + head + "repeats = { count = 2, window_s = 5 }\n";
  CHECK_THAT(errors_after_node(rule + rule),
             Catch::Contains("FILE:9: key 'breaker.name': 'n' is already the name of the breaker of line 5"));
  std::string many;
  for (std::size_t i = 0; i <= spend_rules_max; ++i) {
    many += "[[breaker]]\nname = \"n" + std::to_string(i) + "\"\nscope = \"key:*\"\nrepeats = { count = 2, window_s = 5 }\n";
  }
  CHECK_THAT(errors_after_node(many), Catch::Contains("is one too many; there may be 64"));
}

TEST_CASE("mistakes in whom to tell are named, and no secret is shown", "[config][spend_breaker]") {
  CHECK_THAT(errors_after_node("[breakers]\nnotify = { url = \"https://u:p4ss@h/x\" }\n"),
             Catch::Contains("FILE:5: key 'breakers.notify.url': holds '@'") && !Catch::Contains("p4ss") &&
                 Catch::Contains("FILE:5: key 'breakers.notify.secret': is missing: it signs each delivery"));
  CHECK_THAT(errors_after_node("[breakers]\nnotify = { url = \"ftp://h\", secret = { env = \"OUTLAST_NOT_SET\" } }\n"),
             Catch::Contains("key 'breakers.notify.url': 'ftp://h' is not a URL") &&
                 Catch::Contains("the environment variable OUTLAST_NOT_SET is not set; set it, or write secret = { file"));
  CHECK_THAT(errors_after_node("[breakers]\ncommand = [\"page\"]\n"),
             Catch::Contains("FILE:5: key 'breakers.command': is not a program and its arguments"));
  CHECK_THAT(errors_after_node("[breakers]\nlink_base = \"ops\"\n"), Catch::Contains("FILE:5: key 'breakers.link_base': is not a base URL"));
}

TEST_CASE("a rule reads back from its JSON", "[config][spend_breaker]") {
  for (const SpendLimit& limit : {SpendLimit(SpendWindowLimit{dollar * 50, 3'600}), SpendLimit(SpendRateLimit{10, dollar, 30, 10}),
                                  SpendLimit(SpendSessionLimit{36'000, dollar, 60}), SpendLimit(SpendSessionLimit{0, {7}, 900}),
                                  SpendLimit(SpendRepeatLimit{20, 600})}) {
    for (const SpendAction action : {SpendAction::notify, SpendAction::throttle, SpendAction::hold}) {
      SpendBreakerRule rule;
      rule.name = "night";
      rule.scope = {ScopeKind::tag, "a \"tag\""};
      rule.limit = limit;
      rule.action = action;
      rule.requests_per_minute = action == SpendAction::throttle ? 7 : 0;
      rule.half_open_after_s = 60;
      rule.half_open_requests = 2;
      const auto read = parse_spend_rule(spend_rule_json(rule));
      INFO(spend_rule_json(rule));
      REQUIRE(read);
      CHECK(*read == rule);
    }
  }
}

TEST_CASE("a rule that is none says which key is wrong", "[config][spend_breaker]") {
  CHECK_FALSE(parse_spend_rule(""));
  CHECK_FALSE(parse_spend_rule("[]"));
  const auto wrong = parse_spend_rule(R"({"name": "n", "scope": "key:*", "window": {"amount_usd": 5, "window_s": 60}, "why": 1})");
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().message.starts_with("key 'w"));
  CHECK_THAT(wrong.error().message, Catch::Contains("key 'window.amount_usd': is an integer; write a string in quotes") &&
                                        Catch::Contains("key 'why': is not known"));
  CHECK_THAT(parse_spend_rule(R"({"name": [1]})").error().message, Catch::Contains("key 'name' holds neither"));
}

}  // namespace spend_breaker_config_test
