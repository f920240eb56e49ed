#include "proto/ask_codec.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "core/random.hpp"

namespace ask_codec_test {

using namespace outlast;
using namespace outlast::ask;

namespace {

FramePtr frame_of(std::string_view text) { return Frame::copy_of(std::as_bytes(std::span(text.data(), text.size()))); }

std::vector<std::byte> bytes_of(const FramePtr& frame) { return {frame->bytes().begin(), frame->bytes().end()}; }

bool same(const FramePtr& a, const FramePtr& b) {
  static const FramePtr empty = frame_of("");
  return std::ranges::equal((a ? a : empty)->bytes(), (b ? b : empty)->bytes());
}

// What a message says, for comparison: its frame.
std::vector<std::byte> wire(const Message& message) { return bytes_of(*encode(message)); }

// Random messages of every kind, by a seed.
class Maker {
 public:
  explicit Maker(std::uint64_t seed) : random_(seed) {}

  std::string text(std::size_t size_max = 40) {
    std::string out(random_.below(size_max + 1), '\0');
    for (char& c : out) c = static_cast<char>(random_.below(256));
    return out;
  }
  std::vector<std::string> texts(std::uint64_t count_max) {
    std::vector<std::string> out(random_.below(count_max + 1));
    for (std::string& item : out) item = text();
    return out;
  }
  WorkerDescription worker() { return {text(), text(), random_.next(), texts(4)}; }
  std::vector<WorkerDescription> workers() {
    std::vector<WorkerDescription> out(random_.below(4));
    for (auto& item : out) item = worker();
    return out;
  }
  NodeReport report() {
    NodeReport out{text(), texts(4), {}, text(), random_.below(2) == 1, random_.next(), {}, workers()};
    for (auto& byte : out.incarnation.bytes) byte = static_cast<std::uint8_t>(random_.next());
    for (auto n = random_.below(5); n > 0; --n) {
      out.shards.push_back({number16(), random_.below(2) == 1, random_.next(), random_.next()});
    }
    return out;
  }
  SpendBatch spend() {
    std::vector<std::shared_ptr<const VirtualKey>> keys;
    for (int i = 0; i < 3; ++i) {
      auto key = std::make_shared<VirtualKey>();
      key->id = text();
      key->tenant = {text(), text(), text()};
      keys.push_back(std::move(key));
    }
    SpendBatch batch{random_.next(), std::vector<SpendItem>(random_.below(6))};
    for (SpendItem& item : batch.events) {
      item.key = keys[random_.below(keys.size())];
      item.tags = texts(8);
      item.session = text();
      item.provider = text(2);
      item.model = text(2);
      item.conversation = random_.next();
      item.request = random_.next();
      item.cost.value = static_cast<__int128>(static_cast<std::int64_t>(random_.next())) * 1'000;
      item.age_ms = static_cast<std::uint32_t>(random_.next());
      item.duration_ms = static_cast<std::uint32_t>(random_.next());
      item.ended = random_.below(2) == 1;
    }
    return batch;
  }
  std::uint16_t number16() { return static_cast<std::uint16_t>(random_.next()); }
  Message message() {
    switch (random_.below(8)) {
      case 0: return Ask{random_.next(), text(), number16(), static_cast<std::uint32_t>(random_.next()), frame_of(text(2'000))};
      case 1: return Answer{random_.next(), frame_of(text())};
      case 2: return Failed{random_.next(), {"ledger", number16(), text()}, random_.below(2) == 1};
      case 3: return Cancel{random_.next()};
      case 4: return Down{text(), text()};
      case 5: return spend();
      case 6: return Told{texts(5)};
      default: return Workers{random_.next(), workers()};
    }
  }

 private:
  Random random_;
};

}  // namespace

TEST_CASE("every message of the control channel comes back as it was sent, from any alignment", "[frame]") {
  for (std::uint64_t seed = 1; seed <= 2'000; ++seed) {
    INFO("seed " << seed);
    Maker maker(seed);
    const std::size_t offset = seed % 8;
    const auto sent = wire(maker.message());
    auto bytes = sent;
    bytes.insert(bytes.begin(), offset, std::byte{});
    const auto again = decode(std::span(bytes).subspan(offset));
    REQUIRE(again);
    REQUIRE(wire(*again) == sent);

    const NodeReport report = maker.report();
    const auto report_again = decode_node_report((*encode_body(report))->bytes());
    REQUIRE(report_again);
    REQUIRE(*report_again == report);
    const WorkerDescription worker = maker.worker();
    REQUIRE(*decode_worker((*encode_body(worker))->bytes()) == worker);
    const WorkerBody body{maker.number16(), frame_of(maker.text(3'000))};
    const auto body_again = decode_worker_body((*encode_body(body))->bytes());
    REQUIRE(body_again);
    REQUIRE(body_again->method == body.method);
    REQUIRE(same(body_again->body, body.body));
  }
}

TEST_CASE("a message of the control channel that is cut or damaged is an error or another message", "[frame]") {
  std::size_t refused = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Maker maker(seed);
    Random random(seed);
    for (const auto& bytes : {wire(maker.message()), bytes_of(*encode_body(maker.report()))}) {
      for (std::size_t size = 0; size < bytes.size(); size += 1 + random.below(8)) {
        refused += decode(std::span(bytes).first(size)) ? 0 : 1;
        refused += decode_node_report(std::span(bytes).first(size)) ? 0 : 1;
      }
      for (int i = 0; i < 200; ++i) {
        auto damaged = bytes;
        damaged[random.below(damaged.size())] = static_cast<std::byte>(random.next());
        refused += decode(damaged) ? 0 : 1;
        refused += decode_node_report(damaged) ? 0 : 1;
        refused += decode_worker_body(damaged) ? 0 : 1;
      }
    }
  }
  CHECK(refused > 10'000);
}

TEST_CASE("what is over a limit of the control channel is refused before it is sent", "[frame]") {
  const std::string long_name(name_bytes_max + 1, 'n');
  CHECK(is(encode(Ask{1, long_name, 1, 1, nullptr}).error(), FrameError::too_large));
  CHECK(is(encode(Ask{1, "a", 1, 1, std::make_shared<Frame>(body_bytes_max + 1)}).error(), FrameError::too_large));
  CHECK(is(encode(Down{long_name, ""}).error(), FrameError::too_large));
  CHECK(is(encode(Told{std::vector<std::string>(told_max + 1)}).error(), FrameError::too_large));
  CHECK(is(encode(Workers{1, std::vector<WorkerDescription>(workers_max + 1)}).error(), FrameError::too_large));
  CHECK(is(encode_body(WorkerDescription{"w", "", 0, std::vector<std::string>(capabilities_max + 1)}).error(), FrameError::too_large));
  NodeReport report;
  report.shards.resize(shards_max + 1);
  CHECK(is(encode_body(report).error(), FrameError::too_large));
  CHECK(is(decode(std::vector<std::byte>(frame_bytes_max + 8)).error(), FrameError::too_large));
  const auto most = encode(Ask{1, std::string(name_bytes_max, 'n'), 1, 1, std::make_shared<Frame>(body_bytes_max)});
  REQUIRE(most);
  CHECK((*most)->size() <= 8U << 20);
}

namespace {

SpendItem spend_of(std::shared_ptr<const VirtualKey> key) {
  SpendItem item;
  item.key = std::move(key);
  item.tags = {"nightly", "batch"};
  item.session = "nightly";
  item.provider = "openai";
  item.model = "gpt-4o";
  item.conversation = 7;
  item.request = 8;
  item.cost.value = -5;
  item.age_ms = 20;
  item.duration_ms = 1'500;
  item.ended = true;
  return item;
}

std::shared_ptr<const VirtualKey> key_a() {
  auto key = std::make_shared<VirtualKey>();
  key->id = "key_a";
  key->tenant = {"acme", "search", "ann"};
  return key;
}

}  // namespace

TEST_CASE("what was spent arrives as it was told, and its key once", "[frame]") {
  SpendBatch batch{41, {spend_of(key_a()), spend_of(nullptr)}};
  batch.events[1].key = batch.events[0].key;
  batch.events[1].cost.value = (__int128{1} << 100) + 3;
  const auto decoded = decode((*encode(batch))->bytes());
  REQUIRE(decoded);
  const auto& again = std::get<SpendBatch>(*decoded);
  CHECK(again.first == 41);
  REQUIRE(again.events.size() == 2);
  const SpendItem& item = again.events[0];
  CHECK(item.key->id == "key_a");
  CHECK(item.key->tenant == TenantPath{"acme", "search", "ann"});
  CHECK(item.tags == std::vector<std::string>{"nightly", "batch"});
  CHECK(item.session == "nightly");
  CHECK(item.provider == "openai");
  CHECK(item.model == "gpt-4o");
  CHECK((item.conversation == 7 && item.request == 8 && item.age_ms == 20 && item.duration_ms == 1'500 && item.ended));
  CHECK(item.cost.value == -5);
  CHECK(again.events[1].cost.value == batch.events[1].cost.value);
  CHECK(again.events[0].key == again.events[1].key);
}

TEST_CASE("spend over a limit is refused before it is sent, and a hundred bytes tell an event", "[frame]") {
  SpendBatch batch{0, std::vector<SpendItem>(spend_events_max, spend_of(key_a()))};
  const auto most = encode(batch);
  REQUIRE(most);
  CHECK((*most)->size() < spend_events_max * 100);
  batch.events.push_back(batch.events[0]);
  CHECK(is(encode(batch).error(), FrameError::too_large));
  batch.events.resize(1);
  batch.events[0].tags.assign(9, "t");
  CHECK(is(encode(batch).error(), FrameError::too_large));
  batch.events[0].tags.clear();
  batch.events[0].model.assign(name_bytes_max + 1, 'm');
  CHECK(is(encode(batch).error(), FrameError::too_large));
}

TEST_CASE("errors keep their module where it is known, and lose the end of a long message", "[frame]") {
  const auto through = [](Error error) {
    const auto again = decode((*encode(Failed{1, std::move(error), true}))->bytes());
    return std::get<Failed>(again.value()).error;
  };
  CHECK(through({"ledger", 20, "fenced"}).module == "ledger");
  CHECK(through({"of-a-later-version", 20, "?"}).module == "remote");
  CHECK(through({"ledger", 20, std::string(2 * error_message_bytes_max, 'e')}).message.size() == error_message_bytes_max);
}

TEST_CASE("a kind of message from a newer node is told from garbage", "[frame]") {
  const auto bytes = wire(Cancel{});
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto changed = bytes;
    changed[i] = std::byte{99};
    const auto decoded = decode(changed);
    unknown += !decoded && is(decoded.error(), FrameError::unknown_kind) ? 1 : 0;
  }
  CHECK(unknown == 2);  // a discriminant has two bytes
}

namespace {

// As in the golden frames: not to be changed.
std::vector<std::pair<std::string, std::vector<std::byte>>> golden_frames() {
  const WorkerDescription worker{"gpu0", "NVIDIA L40S", 48'000'000'000, {"train", "bf16"}};
  NodeReport report{"n1", {"gateway", "ledger"}, *Uuid::parse("0190b5a4-7c1e-7000-8000-0123456789ab"), "0.1.0", true, 7,
                    {{3, true, 1'000, 0}, {0xffff, false, 20, 2}}, {worker}};
  return {
      {"ask-1-ask", wire(Ask{1, "node", 2, 10'000, frame_of("body")})},
      {"ask-1-answer", wire(Answer{1, frame_of("answer")})},
      {"ask-1-failed", wire(Failed{2, {"actors", 4, "no such actor"}, false})},
      {"ask-1-cancel", wire(Cancel{3})},
      {"ask-1-down", wire(Down{"worker/gpu0", "gone"})},
      {"ask-1-workers", wire(Workers{9, {worker}})},
      {"ask-1-spend", wire(SpendBatch{9, {spend_of(key_a())}})},
      {"ask-1-told", wire(Told{{"brk_a-1764081234567-tripped"}})},
      {"ask-1-node_report", bytes_of(*encode_body(report))},
      {"ask-1-worker_call", bytes_of(*encode_body(WorkerBody{5, frame_of("call")}))},
  };
}

std::string golden_path(const std::string& name) { return OUTLAST_SOURCE_DIR "/tests/proto/golden/" + name + ".hex"; }

std::string hex_of(const std::vector<std::byte>& bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string hex;
  for (const std::byte byte : bytes) {
    hex += digits[std::to_integer<unsigned>(byte) >> 4];
    hex += digits[std::to_integer<unsigned>(byte) & 15];
  }
  return hex;
}

}  // namespace

TEST_CASE("frames of the control channel's version 1 are still written so, and still decode", "[frame]") {
  for (const auto& [name, bytes] : golden_frames()) {
    INFO(name);
    std::string hex;
    std::ifstream(golden_path(name)) >> hex;
    CHECK(hex == hex_of(bytes));
  }
}

TEST_CASE("write the golden frames of the control channel", "[.golden]") {
  for (const auto& [name, bytes] : golden_frames()) std::ofstream(golden_path(name)) << hex_of(bytes) << "\n";
}

}  // namespace ask_codec_test
