#include <cmath>
#include <map>

#include "gpu/decode/sampler.hpp"
#include "gpu/decode/stop_strings.hpp"
#include "gpu/gpu_error.hpp"
#include "tests/gpu/decoder_fixture.hpp"
#include "tests/gpu/finite_differences.hpp"

namespace outlast::gpu::sampler_test {
namespace {

DecodedToken choose(const std::vector<float>& logits, const SamplingOptions& options, std::uint64_t place = 0, const TokenMask* allowed = nullptr) {
  Sampler sampler(logits.size());
  DecodedToken chosen;
  const auto done = sampler.choose(logits, allowed, options, place, chosen);
  REQUIRE(done);
  return chosen;
}

// How often each token comes, of many places.
std::map<TokenId, double> shares(const std::vector<float>& logits, const SamplingOptions& options, const TokenMask* allowed = nullptr) {
  constexpr std::uint64_t draws = 20'000;
  Sampler sampler(logits.size());
  DecodedToken chosen;
  std::map<TokenId, double> count;
  for (std::uint64_t place = 0; place < draws; ++place) {
    REQUIRE(sampler.choose(logits, allowed, options, place, chosen));
    count[chosen.token] += 1.0 / draws;
  }
  return count;
}

const std::vector<float> five{std::log(0.1F), std::log(0.4F), std::log(0.2F), std::log(0.05F), std::log(0.25F)};

TEST_CASE("greedy takes the likeliest, of equal ones the first", "[gpu][decode]") {
  CHECK(choose(five, {}).token == 1);
  CHECK(choose({1, 3, 3, 2}, {}).token == 1);
  CHECK(choose({1, 3, 3, 2}, {2.0, 1, 1, 5, 0}).token == 1);  // top_k 1 is greedy
  TokenMask allowed(4);
  allowed.add(2);
  allowed.add(3);
  CHECK(choose({1, 3, 3, 2}, {}, 0, &allowed).token == 2);
}

TEST_CASE("log-probabilities are of the whole distribution, whatever is cut off, heated or forbidden", "[gpu][decode]") {
  TokenMask allowed(5);
  allowed.add(3);
  for (const SamplingOptions& options : {SamplingOptions{}, SamplingOptions{0.3, 1, 0, 1, 0}, SamplingOptions{1, 0.5, 2, 1, 0}}) {
    const DecodedToken chosen = choose(five, options, 0, &allowed);
    CHECK(chosen.token == 3);
    CHECK(chosen.log_p == Approx(std::log(0.05)).epsilon(1e-5));
  }
  const DecodedToken told = choose(five, {0, 1, 0, 1, 3}, 0, &allowed);
  REQUIRE(told.top.size() == 3);
  CHECK(told.top[0].token == 1);
  CHECK(told.top[1].token == 4);
  CHECK(told.top[2].token == 2);
  CHECK(told.top[1].log_p == Approx(std::log(0.25)).epsilon(1e-5));
}

TEST_CASE("tokens come as often as their probabilities say", "[gpu][decode]") {
  auto plain = shares(five, {1, 1, 0, 3, 0});
  CHECK(plain[1] == Approx(0.4).margin(0.02));
  CHECK(plain[3] == Approx(0.05).margin(0.01));
  auto cold = shares(five, {0.5, 1, 0, 3, 0});  // squares of them
  CHECK(cold[1] == Approx(0.16 / 0.275).margin(0.02));
  auto top_two = shares(five, {1, 1, 2, 3, 0});
  CHECK(top_two.size() == 2);
  CHECK(top_two[1] == Approx(0.4 / 0.65).margin(0.02));
  auto nucleus = shares(five, {1, 0.8, 0, 3, 0});  // 0.4 + 0.25 + 0.2
  CHECK(nucleus.size() == 3);
  CHECK(nucleus[2] == Approx(0.2 / 0.85).margin(0.02));
  CHECK(shares(five, {1, 0.01, 0, 3, 0}).size() == 1);
  auto both = shares(five, {1, 0.6, 3, 3, 0});  // of the three that top_k leaves: 0.4 + 0.25 of 0.85
  CHECK(both.size() == 2);
  TokenMask allowed(5);
  allowed.add(0);
  allowed.add(2);
  auto masked = shares(five, {1, 1, 0, 3, 0}, &allowed);
  CHECK(masked.size() == 2);
  CHECK(masked[2] == Approx(2.0 / 3).margin(0.02));
}

TEST_CASE("a nucleus of many tokens is that of sorting all", "[gpu][decode]") {
  const auto logits = random_numbers(3'000, 1);
  std::vector<double> masses;
  double whole = 0;
  for (const float logit : logits) {
    masses.push_back(std::exp(static_cast<double>(logit)));
    whole += masses.back();
  }
  std::sort(masses.rbegin(), masses.rend());
  double mass = 0;
  double least = 0;
  for (std::size_t i = 0; mass < 0.9 * whole; ++i) mass += (least = masses[i]);
  double lowest = 1e9;
  for (std::uint64_t place = 0; place < 3'000; ++place) {
    const DecodedToken chosen = choose(logits, {1, 0.9, 0, 1, 0}, place);
    lowest = std::min(lowest, std::exp(static_cast<double>(logits[chosen.token])));
  }
  CHECK(lowest >= least * (1 - 1e-6));
  CHECK(lowest < least * 1.05);
}

TEST_CASE("the same seed and place give the same token, others others", "[gpu][decode]") {
  const auto logits = random_numbers(1'000, 2);
  const SamplingOptions options{1, 0.95, 500, 11, 0};
  SamplingOptions other = options;
  other.seed = 12;
  int same_seed = 0;
  int same_place = 0;
  for (std::uint64_t place = 0; place < 100; ++place) {
    CHECK(choose(logits, options, place).token == choose(logits, options, place).token);
    same_seed += choose(logits, options, place).token == choose(logits, options, place + 1).token ? 1 : 0;
    same_place += choose(logits, options, place).token == choose(logits, other, place).token ? 1 : 0;
  }
  CHECK(same_seed < 20);
  CHECK(same_place < 20);
}

TEST_CASE("logits that are no numbers and masks that are empty are errors", "[gpu][decode]") {
  Sampler sampler(40);
  DecodedToken chosen;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> logits(40, 1);
    logits[33] = bad;
    const auto done = sampler.choose(logits, nullptr, {1, 1, 0, 0, 0}, 0, chosen);
    REQUIRE(!done);
    CHECK(is(done.error(), GpuError::invalid));
  }
  const TokenMask none(5);
  CHECK(!sampler.choose(five, &none, {}, 0, chosen));
}

TEST_CASE("sampling that makes no sense is refused", "[gpu][decode]") {
  CHECK(check_sampling({}));
  CHECK(!check_sampling({NAN, 1, 0, 0, 0}));
  CHECK(!check_sampling({-1, 1, 0, 0, 0}));
  CHECK(!check_sampling({1, 0, 0, 0, 0}));
  CHECK(!check_sampling({1, 1.5, 0, 0, 0}));
  CHECK(!check_sampling({1, 1, 0, 0, 21}));
}

struct Stopped {
  std::string text;
  bool found = false;
};
Stopped stopped(const std::vector<std::string>& strings, const std::vector<std::string>& parts) {
  StopStrings stop(strings);
  Stopped out;
  for (const std::string& part : parts) {
    if (stop.push(part, out.text)) {
      out.found = true;
      return out;
    }
  }
  stop.finish(out.text);
  return out;
}

TEST_CASE("nothing of a stop string is let out, and everything else is", "[gpu][decode]") {
  CHECK(stopped({"END"}, {"a", "bE", "N", "Dc"}).text == "ab");
  CHECK(stopped({"END"}, {"a", "bE", "N", "Xc"}).text == "abENXc");
  CHECK(stopped({"END"}, {"aEN"}).text == "aEN");
  CHECK(stopped({"aab"}, {"a", "a", "a", "b"}).text == "a");
  CHECK(stopped({"xyz", "y"}, {"axy", "z"}).text == "ax");  // the one that is complete first
  CHECK(stopped({"\n\n"}, {"one\n", "two\n", "\nthree"}).text == "one\ntwo");
  CHECK_FALSE(stopped({}, {"all"}).found);
  StopStrings stop({"END"});
  std::string out;
  CHECK_FALSE(stop.push("certain E", out));
  CHECK(out == "certain ");
}

TEST_CASE("stop strings are few and short", "[gpu][decode]") {
  CHECK(check_stop_strings({"a", "b"}));
  CHECK(!check_stop_strings({""}));
  CHECK(!check_stop_strings({std::string(257, 'a')}));
  CHECK(!check_stop_strings(std::vector<std::string>(17, "a")));
}

}  // namespace
}  // namespace outlast::gpu::sampler_test
