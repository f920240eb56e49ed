#include "cluster/enrolment.hpp"

#include <algorithm>
#include <utility>

#include "cluster/join_token.hpp"

namespace outlast::cluster {
namespace {

using join::RefusalKind;
using storage::LedgerError;

constexpr const char* bad_token_text =
    "the join token does not let anybody in: it was used, has expired, or was not made by this cluster; "
    "'outlast node token' makes a new one";

// An open token of that id with that secret. The comparison is made in any case, so that its time tells nothing.
bool lets_in(const MemberRecords& records, const join::Request& request, std::int64_t now_ms) {
  const auto token = std::find_if(records.tokens.begin(), records.tokens.end(), [&request](const JoinTokenRecord& one) {
    return one.token.id == request.token_id;
  });
  const bool known = token != records.tokens.end();
  const bool secret = is_secret_of(request.secret, known ? token->token.hash : Digest{});
  return known && secret && token->token.expires_ms > now_ms;
}

// The node that this very token let in, by the key that the link proved.
bool is_in(const MemberRecords& records, const JoinRequest& request) {
  const MemberRecord* node = records.find(request.message.name);
  return node != nullptr && node->takes_part() && node->enrolled.public_key == request.public_key &&
         node->enrolled.token == request.message.token_id && !request.message.token_id.empty();
}

join::Welcome welcome_of(const MemberRecords& records, const std::string& joiner) {
  join::Welcome welcome;
  for (const MemberRecord& node : records.nodes) {
    if (!node.takes_part() || node.enrolled.name == joiner) continue;
    welcome.nodes.push_back({node.enrolled.name, node.enrolled.public_key, node.enrolled.endpoint});
  }
  for (const auto& [name, value] : records.settings) {
    if (value.size() <= join::setting_bytes_max) welcome.settings[name] = value;
  }
  return welcome;
}

join::Refused refusal_of(const Error& error) {
  if (is(error, LedgerError::bad_token)) return {RefusalKind::bad_token, bad_token_text};
  if (is(error, LedgerError::taken)) {
    return {RefusalKind::taken, "another node has this name or this key; give the node another [node] name, or remove "
                                "the other one with 'outlast node remove'"};
  }
  if (is(error, LedgerError::key_revoked)) {
    return {RefusalKind::key_revoked, "this node's key was revoked; remove DATA/zmq.key and begin with 'outlast node init'"};
  }
  if (is(error, LedgerError::invalid)) {
    return {RefusalKind::invalid, "the node's name, address or roles are not what the cluster takes: [node] name has "
                                  "1 to 64 of A-Z a-z 0-9 . _ -, [cluster] advertise is tcp://HOST:PORT"};
  }
  if (is(error, LedgerError::overloaded) || is(error, LedgerError::unavailable) || is(error, LedgerError::fenced)) {
    return {RefusalKind::busy, "the cluster cannot write this down now: " + error.message};
  }
  return {RefusalKind::internal, "the cluster cannot write this down: " + error.message};
}

}  // namespace

void Enrolment::join(JoinRequest request, JoinListener::Answer answer) {
  const Result<MemberRecords> records = ledger_.members();
  if (!records) return answer(refusal_of(records.error()));
  join::Welcome welcome = welcome_of(*records, request.message.name);
  welcome.version = std::min(request.message.version_max, join::version_max);
  welcome.cluster = cluster_;
  welcome.secret = secret_;
  if (is_in(*records, request)) return answer(std::move(welcome));
  if (!lets_in(*records, request.message, clock_.wall_ms())) {
    return answer(join::Refused{RefusalKind::bad_token, bad_token_text});
  }
  NodeEnrolled node{std::move(request.message.name), std::move(request.public_key), std::move(request.message.endpoint),
                    std::move(request.message.roles), request.message.token_id, "join token " + request.message.token_id};
  ledger_.record_member(std::move(node), [answer = std::move(answer), welcome = std::move(welcome)](Result<void> done) mutable {
    if (done) answer(std::move(welcome));
    else answer(refusal_of(done.error()));
  });
}

}  // namespace outlast::cluster
