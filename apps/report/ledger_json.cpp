#include "apps/report/ledger_json.hpp"

#include "core/json_writer.hpp"

namespace outlast::apps {

std::string heads_json(const storage::SignedHeads& heads) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("heads").begin_array();
  for (const storage::SignedHead& head : heads.heads) {
    json.begin_object().key("node").string(head.node).key("index").number(head.index);
    json.key("hash").string(to_hex(head.hash)).key("time_ms").number(head.time_ms);
    json.key("signature").string(to_hex(head.signature)).end_object();
  }
  json.end_array().key("problem");
  if (heads.problem.empty()) json.null();
  else json.string(heads.problem);
  json.end_object();
  return text;
}

std::string backup_json(const storage::BackupReport& report) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("id").number(std::uint64_t{report.id});
  json.key("entries").number(report.entries).key("head").string(to_hex(report.head_hash));
  json.key("segments").number(report.segments).key("bytes").number(report.bytes);
  json.key("kept").number(std::uint64_t{report.kept}).end_object();
  return text;
}

}  // namespace outlast::apps
