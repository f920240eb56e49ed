#include "gpu/tokenizer/tokenizer_model.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>

#include <simdjson.h>

#include "core/json_writer.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/tokenizer/byte_alphabet.hpp"

namespace outlast::gpu {
namespace {

namespace dom = simdjson::dom;
using simdjson::SUCCESS;

// What GPT-2's pre-tokenizer cuts by where the file only says "use_regex".
constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Failure malformed_tokenizer(std::string message) { return fail(GpuError::malformed, "tokenizer.json: " + std::move(message)); }
Failure unsupported(std::string message) { return fail(GpuError::unsupported, "tokenizer.json: " + std::move(message)); }

bool is_absent(const dom::element& object, std::string_view key) {
  dom::element value;
  return object[key].get(value) != SUCCESS || value.is_null();
}

std::string_view text_of(const dom::element& object, std::string_view key) {
  std::string_view text;
  if (object[key].get(text) != SUCCESS) return {};
  return text;
}

bool flag_of(const dom::element& object, std::string_view key, bool otherwise) {
  bool flag = otherwise;
  if (object[key].get(flag) != SUCCESS) return otherwise;
  return flag;
}

// The members of a "Sequence", or the one thing that it is.
std::vector<dom::element> steps_of(const dom::element& root, std::string_view key, std::string_view list) {
  std::vector<dom::element> steps;
  dom::element step;
  if (root[key].get(step) != SUCCESS || step.is_null()) return steps;
  dom::array sequence;
  if (text_of(step, "type") != "Sequence" || step[list].get(sequence) != SUCCESS) return {step};
  for (const dom::element member : sequence) steps.push_back(member);
  return steps;
}

class Reader {
 public:
  Reader(const dom::element& root, TokenizerModel& model) : root_(root), model_(model) {}

  Result<void> read() {
    for (const auto step : {&Reader::read_model, &Reader::read_merges, &Reader::read_added, &Reader::read_normalizer,
                            &Reader::read_pre_tokenizer, &Reader::read_rest}) {
      if (Result<void> done = (this->*step)(); !done) return done;
    }
    return {};
  }

 private:
  Result<void> read_model() {
    if (root_["model"].get(part_) != SUCCESS || !part_.is_object()) return malformed_tokenizer("it has no object 'model'");
    const std::string_view type = text_of(part_, "type");
    if (type != "BPE") return unsupported("model.type is '" + std::string(type) + "'; this build runs BPE");
    for (const std::string_view key : {"dropout", "unk_token"}) {
      if (!is_absent(part_, key)) return unsupported("model." + std::string(key) + " is set; a byte-level BPE has none");
    }
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!text_of(part_, key).empty()) return unsupported("model." + std::string(key) + " is set");
    }
    if (flag_of(part_, "byte_fallback", false)) return unsupported("model.byte_fallback is set; this build runs byte-level BPE");
    model_.ignore_merges = flag_of(part_, "ignore_merges", false);
    dom::object vocabulary;
    if (part_["vocab"].get(vocabulary) != SUCCESS) return malformed_tokenizer("model.vocab is not an object");
    for (const auto& [letters, value] : vocabulary) {
      std::uint64_t id = 0;
      if (value.get(id) != SUCCESS || id >= vocabulary_max)
        return malformed_tokenizer("model.vocab: the id of '" + std::string(letters) + "' is not a number below " + std::to_string(vocabulary_max));
      auto bytes = from_letters(letters);
      if (!bytes) return unsupported("model.vocab: '" + std::string(letters) + "' is not written in the byte-level alphabet");
      if (bytes->empty() || bytes->size() > token_bytes_max)
        return malformed_tokenizer("model.vocab: the token of id " + std::to_string(id) + " has " + std::to_string(bytes->size()) + " bytes");
      if (id >= model_.tokens.size()) model_.tokens.resize(id + 1);
      if (!model_.tokens[id].empty()) return malformed_tokenizer("model.vocab: two tokens have the id " + std::to_string(id));
      if (!ids_.emplace(*bytes, static_cast<TokenId>(id)).second)
        return malformed_tokenizer("model.vocab: the token '" + std::string(letters) + "' stands there twice");
      model_.tokens[id] = std::move(*bytes);
    }
    for (int byte = 0; byte < 256; ++byte) {
      if (!ids_.contains(std::string(1, static_cast<char>(byte))))
        return unsupported("model.vocab has no token for the byte " + std::to_string(byte) + "; a byte-level BPE has all 256");
    }
    return {};
  }

  Result<void> read_merges() {
    dom::array merges;
    if (part_["merges"].get(merges) != SUCCESS) return malformed_tokenizer("model.merges is not an array");
    std::unordered_map<std::uint64_t, std::size_t> known;
    for (const dom::element merge : merges) {
      const std::string where = "model.merges, number " + std::to_string(model_.merges.size());
      std::string_view left;
      std::string_view right;
      if (!halves_of(merge, left, right)) return malformed_tokenizer(where + ": it is neither \"a b\" nor [\"a\", \"b\"]");
      const auto left_bytes = from_letters(left);
      const auto right_bytes = from_letters(right);
      if (!left_bytes || !right_bytes) return malformed_tokenizer(where + ": it is not written in the byte-level alphabet");
      const auto left_id = ids_.find(*left_bytes);
      const auto right_id = ids_.find(*right_bytes);
      if (left_id == ids_.end() || right_id == ids_.end() || !ids_.contains(*left_bytes + *right_bytes))
        return malformed_tokenizer(where + ": '" + std::string(left) + "' + '" + std::string(right) + "' is not made of tokens of the vocabulary");
      const std::uint64_t key = std::uint64_t{left_id->second} << 32 | right_id->second;
      if (!known.emplace(key, model_.merges.size()).second) return malformed_tokenizer(where + ": it stands there twice");
      model_.merges.emplace_back(left_id->second, right_id->second);
    }
    return {};
  }

  static bool halves_of(const dom::element& merge, std::string_view& left, std::string_view& right) {
    if (dom::array pair; merge.get(pair) == SUCCESS)
      return pair.size() == 2 && pair.at(0).get(left) == SUCCESS && pair.at(1).get(right) == SUCCESS;
    std::string_view both;
    if (merge.get(both) != SUCCESS) return false;
    const std::size_t space = both.find(' ');  // the alphabet writes the byte 0x20 otherwise
    if (space == std::string_view::npos) return false;
    left = both.substr(0, space);
    right = both.substr(space + 1);
    return !left.empty() && !right.empty() && right.find(' ') == std::string_view::npos;
  }

  Result<void> read_added() {
    dom::array added;
    if (is_absent(root_, "added_tokens")) return {};
    if (root_["added_tokens"].get(added) != SUCCESS) return malformed_tokenizer("added_tokens is not an array");
    for (const dom::element one : added) {
      AddedToken token;
      std::uint64_t id = 0;
      token.text = text_of(one, "content");
      const std::string where = "added_tokens: '" + token.text + "'";
      if (one["id"].get(id) != SUCCESS || id >= vocabulary_max) return malformed_tokenizer(where + " has no id below " + std::to_string(vocabulary_max));
      if (token.text.empty() || token.text.size() > token_bytes_max)
        return malformed_tokenizer("added_tokens: the text of id " + std::to_string(id) + " has " + std::to_string(token.text.size()) + " bytes");
      for (const std::string_view key : {"single_word", "lstrip", "rstrip"}) {
        if (flag_of(one, key, false)) return unsupported(where + ": " + std::string(key) + " is set");
      }
      token.id = static_cast<TokenId>(id);
      token.special = flag_of(one, "special", false);
      token.normalized = flag_of(one, "normalized", !token.special);
      const bool known = std::any_of(model_.added.begin(), model_.added.end(), [&token](const AddedToken& other) {
        return other.id == token.id || other.text == token.text;
      });
      if (known) return malformed_tokenizer(where + " stands there twice");
      if (token.id < model_.tokens.size() && !model_.tokens[token.id].empty() && model_.tokens[token.id] != token.text)
        return malformed_tokenizer(where + " has the id " + std::to_string(id) + " of another token of the vocabulary");
      if (model_.added.size() == added_tokens_max) return malformed_tokenizer("there are more than " + std::to_string(added_tokens_max) + " added tokens");
      model_.added.push_back(std::move(token));
    }
    return {};
  }

  Result<void> read_normalizer() {
    model_.nfc = false;
    const auto steps = steps_of(root_, "normalizer", "normalizers");
    for (const dom::element& step : steps) {
      const std::string_view type = text_of(step, "type");
      if (type != "NFC") return unsupported("normalizer: '" + std::string(type) + "'; this build knows NFC");
      model_.nfc = true;
    }
    return {};
  }

  Result<void> read_pre_tokenizer() {
    model_.pattern.clear();
    bool byte_level = false;
    const auto steps = steps_of(root_, "pre_tokenizer", "pretokenizers");
    for (const dom::element& step : steps) {
      const std::string_view type = text_of(step, "type");
      if (byte_level) return unsupported("pre_tokenizer: '" + std::string(type) + "' after ByteLevel");
      if (type == "Split") {
        std::string_view pattern;
        if (step["pattern"]["Regex"].get(pattern) != SUCCESS || text_of(step, "behavior") != "Isolated" ||
            flag_of(step, "invert", false) || !model_.pattern.empty()) {
          return unsupported("pre_tokenizer: a Split is once, by {\"Regex\": …}, with the behaviour Isolated");
        }
        model_.pattern = pattern;
      } else if (type == "ByteLevel") {
        byte_level = true;
        if (flag_of(step, "add_prefix_space", true)) return unsupported("pre_tokenizer: ByteLevel with add_prefix_space");
        if (!flag_of(step, "use_regex", true)) continue;
        if (!model_.pattern.empty()) return unsupported("pre_tokenizer: ByteLevel with use_regex after a Split");
        model_.pattern = gpt2_pattern;
      } else {
        return unsupported("pre_tokenizer: '" + std::string(type) + "'; this build knows Split and ByteLevel");
      }
    }
    if (!byte_level) return unsupported("pre_tokenizer: there is no ByteLevel; this build runs byte-level BPE");
    if (model_.pattern.empty()) model_.pattern = R"([\s\S]+)";  // the text as one word
    if (auto made = WordSplitter::make(model_.pattern); !made) return fail(made.error());
    return {};
  }

  Result<void> read_rest() {
    const auto decoders = steps_of(root_, "decoder", "decoders");
    for (const dom::element& step : decoders) {
      if (text_of(step, "type") != "ByteLevel") return unsupported("decoder: '" + std::string(text_of(step, "type")) + "'; this build knows ByteLevel");
    }
    const auto processors = steps_of(root_, "post_processor", "processors");
    for (const dom::element& step : processors) {
      if (text_of(step, "type") != "ByteLevel")
        return unsupported("post_processor: '" + std::string(text_of(step, "type")) + "' adds tokens of its own");
    }
    return {};
  }

  const dom::element& root_;
  TokenizerModel& model_;
  dom::element part_;  // "model"
  std::unordered_map<std::string, TokenId> ids_;
};

}  // namespace

std::size_t TokenizerModel::size() const {
  std::size_t size = tokens.size();
  for (const AddedToken& token : added) size = std::max<std::size_t>(size, token.id + 1);
  return size;
}

Result<TokenizerModel> parse_tokenizer(std::string_view json) {
  if (json.size() > tokenizer_file_bytes_max) return malformed_tokenizer("it has more than " + std::to_string(tokenizer_file_bytes_max >> 20) + " MiB");
  dom::parser parser;
  dom::element root;
  const auto parsed = parser.parse(json.data(), json.size()).get(root);
  if (parsed != SUCCESS) return malformed_tokenizer(std::string("it is not JSON: ") + simdjson::error_message(parsed));
  if (!root.is_object()) return malformed_tokenizer("it is not a JSON object");
  TokenizerModel model;
  if (Result<void> read = Reader(root, model).read(); !read) return fail(std::move(read.error()));
  return model;
}

Result<TokenizerModel> load_tokenizer(const std::string& path) {
  auto text = read_whole_file(path, tokenizer_file_bytes_max);
  if (!text) return fail(std::move(text.error()));
  auto model = parse_tokenizer(*text);
  if (!model) return fail(Error{model.error().module, model.error().code, path + ": " + model.error().message});
  return model;
}

std::string tokenizer_json(const TokenizerModel& model) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("version").string("1.0").key("truncation").null().key("padding").null();
  json.key("added_tokens").begin_array();
  for (const AddedToken& token : model.added) {
    json.begin_object().key("id").number(token.id).key("content").string(token.text);
    for (const char* key : {"single_word", "lstrip", "rstrip"}) json.key(key).boolean(false);
    json.key("normalized").boolean(token.normalized).key("special").boolean(token.special).end_object();
  }
  json.end_array().key("normalizer");
  if (model.nfc) json.begin_object().key("type").string("NFC").end_object();
  else json.null();
  json.key("pre_tokenizer").begin_object().key("type").string("Sequence").key("pretokenizers").begin_array();
  json.begin_object().key("type").string("Split").key("pattern").begin_object().key("Regex").string(model.pattern).end_object();
  json.key("behavior").string("Isolated").key("invert").boolean(false).end_object();
  const auto byte_level = [&json](bool trim) {
    json.begin_object().key("type").string("ByteLevel").key("add_prefix_space").boolean(false);
    json.key("trim_offsets").boolean(trim).key("use_regex").boolean(false).end_object();
  };
  byte_level(false);
  json.end_array().end_object().key("post_processor");
  byte_level(false);
  json.key("decoder");
  byte_level(false);
  json.key("model").begin_object().key("type").string("BPE").key("dropout").null().key("unk_token").null();
  json.key("continuing_subword_prefix").string("").key("end_of_word_suffix").string("").key("fuse_unk").boolean(false);
  json.key("byte_fallback").boolean(false).key("ignore_merges").boolean(model.ignore_merges).key("vocab").begin_object();
  for (TokenId id = 0; id < model.tokens.size(); ++id) {
    if (!model.tokens[id].empty()) json.key(to_letters(model.tokens[id])).number(id);
  }
  json.end_object().key("merges").begin_array();
  for (const auto& [left, right] : model.merges) {
    json.begin_array().string(to_letters(model.tokens[left])).string(to_letters(model.tokens[right])).end_array();
  }
  json.end_array().end_object().end_object();
  return text;
}

}  // namespace outlast::gpu
