#include "gateway/request_hash.hpp"

#include <cstring>
#include <string>
#include <variant>

namespace outlast::gateway {
namespace {

constexpr std::uint64_t rotate(std::uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

struct SipState {
  std::uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1;
    v1 = rotate(v1, 13) ^ v0;
    v0 = rotate(v0, 32);
    v2 += v3;
    v3 = rotate(v3, 16) ^ v2;
    v0 += v3;
    v3 = rotate(v3, 21) ^ v0;
    v2 += v1;
    v1 = rotate(v1, 17) ^ v2;
    v2 = rotate(v2, 32);
  }
  void take(std::uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
};

// A hash over the hashes of pieces, so that no two lists of pieces are taken for one.
class PieceHash {
 public:
  explicit PieceHash(const RequestHashKey& key) : key_(key) {}
  void add(std::string_view piece) {
    const std::uint64_t hash = sip_hash(key_, piece);
    char bytes[sizeof(hash)];
    std::memcpy(bytes, &hash, sizeof(hash));
    hashes_.append(bytes, sizeof(bytes));
  }
  void add(const chat::Message& message) {
    add(std::string_view(message.role == chat::Role::system ? "system" : "other"));
    for (const chat::Part& part : message.parts) {
      std::visit([this](const auto& concrete) { add_part(concrete); }, part);
    }
  }
  // Never 0, which stands for "none".
  [[nodiscard]] std::uint64_t finish() const {
    const std::uint64_t hash = sip_hash(key_, hashes_);
    return hash == 0 ? 1 : hash;
  }

 private:
  void add_part(const chat::Text& part) { add(part.text); }
  void add_part(const chat::Image& part) {
    add(part.data);
    add(part.url);
  }
  void add_part(const chat::ToolCall& part) {
    add(part.name);
    add(part.arguments);
  }
  void add_part(const chat::ToolResult& part) { add(part.content); }

  const RequestHashKey& key_;
  std::string hashes_;
};

std::string_view slice(std::string_view body, ByteRange range) { return body.substr(range.begin, range.end - range.begin); }

}  // namespace

std::uint64_t sip_hash(const RequestHashKey& key, std::string_view bytes) {
  SipState state{key[0] ^ 0x736f6d6570736575ULL, key[1] ^ 0x646f72616e646f6dULL, key[0] ^ 0x6c7967656e657261ULL,
                 key[1] ^ 0x7465646279746573ULL};
  const std::size_t whole = bytes.size() / 8 * 8;
  for (std::size_t i = 0; i < whole; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, 8);  // little-endian, as all of this platform
    state.take(word);
  }
  std::uint64_t last = static_cast<std::uint64_t>(bytes.size()) << 56;
  for (std::size_t i = whole; i < bytes.size(); ++i) {
    last |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * (i - whole));
  }
  state.take(last);
  state.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) state.round();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

std::uint64_t conversation_hash(const RequestHashKey& key, const CallerRequest& request) {
  PieceHash hash(key);
  if (request.typed != nullptr) {
    const chat::Message* system = nullptr;
    for (const chat::Message& message : request.typed->messages) {
      if (message.role == chat::Role::system && system == nullptr) system = &message;
      if (message.role != chat::Role::user) continue;
      if (system != nullptr) hash.add(*system);
      hash.add(message);
      return hash.finish();
    }
    return 0;
  }
  if (request.head.first_user_message.empty()) return 0;
  hash.add(slice(request.openai_body, request.head.system_message));
  hash.add(slice(request.openai_body, request.head.first_user_message));
  return hash.finish();
}

std::uint64_t request_hash(const RequestHashKey& key, const CallerRequest& request) {
  PieceHash hash(key);
  if (request.typed == nullptr) {
    hash.add(request.openai_body);
    return hash.finish();
  }
  const chat::Request& typed = *request.typed;
  hash.add(typed.model);
  hash.add(typed.extra_json);
  hash.add(std::to_string(typed.max_tokens.value_or(0)));
  hash.add(std::to_string(typed.temperature.value_or(-1)) + " " + std::to_string(typed.top_p.value_or(-1)));
  for (const chat::Tool& tool : typed.tools) {
    hash.add(tool.name);
    hash.add(tool.parameters);
  }
  for (const chat::Message& message : typed.messages) hash.add(message);
  return hash.finish();
}

}  // namespace outlast::gateway
