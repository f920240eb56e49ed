#include "proto/ledger_codec.hpp"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/array.h>
#include <kj/exception.h>

#include <array>
#include <cstring>
#include <optional>

#include "proto/ledger_wire.hpp"

namespace outlast::proto {
namespace {

constexpr std::size_t scratch_words = 256;  // 2 KiB: every entry but a price book
constexpr int nesting_max = 8;

// Beside those below, which would hide them.
using outlast::proto::fill;
using outlast::proto::read;

void fill(wire::Attempt::Builder to, const AttemptLine& from) {
  put_id(to, from.request_id);
  to.setCostHigh(high_of(from.cost));
  to.setCostLow(low_of(from.cost));
  to.setNumber(from.number);
  to.setHttpStatus(from.http_status);
  to.setStatus(static_cast<std::uint8_t>(from.status));
  to.setUsageSource(static_cast<std::uint8_t>(from.usage.source));
  to.setPriceKnown(from.price_known);
  to.setFirstEventMs(from.first_event_ms);
  to.setDurationMs(from.duration_ms);
  to.setInputUncached(from.usage.input_uncached);
  to.setInputCacheRead(from.usage.input_cache_read);
  to.setOutputText(from.usage.output_text);
  to.setOutputReasoning(from.usage.output_reasoning);
  to.setDeployment(text_of(from.deployment));
  to.setProvider(text_of(from.provider));
  to.setModel(text_of(from.model));
  to.setPriceVersion(text_of(from.price_version));
  if (!from.service_tier.empty()) to.setServiceTier(text_of(from.service_tier));
  if (!from.inference_geo.empty()) to.setInferenceGeo(text_of(from.inference_geo));
  to.setBatch(from.batch);
  if (!from.contract.empty()) to.setContract(text_of(from.contract));
  const Usage& usage = from.usage;
  const BilledUnits& units = from.units;
  if ((usage.input_cache_write_5m | usage.input_cache_write_1h | usage.input_audio |
       usage.input_image | usage.output_audio | units.images | units.seconds | units.queries |
       units.sessions) == 0) {
    return;
  }
  auto rare = to.initRareUsage();
  rare.setInputCacheWrite5m(usage.input_cache_write_5m);
  rare.setInputCacheWrite1h(usage.input_cache_write_1h);
  rare.setInputAudio(usage.input_audio);
  rare.setInputImage(usage.input_image);
  rare.setOutputAudio(usage.output_audio);
  rare.setImages(units.images);
  rare.setSeconds(units.seconds);
  rare.setQueries(units.queries);
  rare.setSessions(units.sessions);
}

AttemptLine read(wire::Attempt::Reader from) {
  AttemptLine to;
  to.request_id = uuid_of(from.getIdHigh(), from.getIdLow());
  to.cost = amount_of(from.getCostHigh(), from.getCostLow());
  to.number = from.getNumber();
  to.http_status = from.getHttpStatus();
  if (from.getStatus() >= std::size(attempt_status_names))
    throw Malformed{"an attempt status of a later version"};
  to.status = static_cast<AttemptStatus>(from.getStatus());
  if (from.getUsageSource() > static_cast<std::uint8_t>(UsageSource::reported)) {
    throw Malformed{"a usage source of a later version"};
  }
  to.usage.source = static_cast<UsageSource>(from.getUsageSource());
  to.price_known = from.getPriceKnown();
  to.first_event_ms = from.getFirstEventMs();
  to.duration_ms = from.getDurationMs();
  to.usage.input_uncached = from.getInputUncached();
  to.usage.input_cache_read = from.getInputCacheRead();
  to.usage.output_text = from.getOutputText();
  to.usage.output_reasoning = from.getOutputReasoning();
  to.deployment = string_of(from.getDeployment());
  to.provider = string_of(from.getProvider());
  to.model = string_of(from.getModel());
  to.price_version = string_of(from.getPriceVersion());
  to.service_tier = string_of(from.getServiceTier());
  to.inference_geo = string_of(from.getInferenceGeo());
  to.batch = from.getBatch();
  to.contract = string_of(from.getContract());
  if (from.hasRareUsage()) {
    const auto rare = from.getRareUsage();
    to.usage.input_cache_write_5m = rare.getInputCacheWrite5m();
    to.usage.input_cache_write_1h = rare.getInputCacheWrite1h();
    to.usage.input_audio = rare.getInputAudio();
    to.usage.input_image = rare.getInputImage();
    to.usage.output_audio = rare.getOutputAudio();
    to.units = {rare.getImages(), rare.getSeconds(), rare.getQueries(), rare.getSessions()};
  }
  return to;
}

VirtualKey read(wire::KeyCreated::Reader from) {
  VirtualKey to;
  to.id = string_of(from.getId());
  to.tenant = {string_of(from.getOrganisation()), string_of(from.getTeam()),
               string_of(from.getUser())};
  to.name = string_of(from.getName());
  const auto hash = from.getHash();
  if (hash.size() != to.hash.size()) throw Malformed{"a key hash that is not 32 bytes"};
  std::memcpy(to.hash.data(), hash.begin(), to.hash.size());
  to.created_ms = from.getCreatedMs();
  return to;
}

std::optional<EntryBody> read(wire::LedgerEntry::Body::Reader body) {
  using Body = wire::LedgerEntry::Body;
  switch (body.which()) {
    case Body::INCARNATION: {
      const auto from = body.getIncarnation();
      return IncarnationStarted{uuid_of(from.getIdHigh(), from.getIdLow()),
                                string_of(from.getSoftware())};
    }
    case Body::RESERVE: return read(body.getReserve());
    case Body::ATTEMPT: return read(body.getAttempt());
    case Body::SETTLE: {
      const auto from = body.getSettle();
      return Settled{{read(from.getAttempt())},
                     amount_of(from.getOverrunHigh(), from.getOverrunLow())};
    }
    case Body::VOIDED: {
      const auto from = body.getVoided();
      return Voided{{uuid_of(from.getIdHigh(), from.getIdLow()), string_of(from.getReason())},
                    amount_of(from.getOverrunHigh(), from.getOverrunLow())};
    }
    case Body::KEY_CREATED: return KeyCreated{read(body.getKeyCreated())};
    case Body::KEY_REVOKED: return KeyRevoked{string_of(body.getKeyRevoked().getId())};
    case Body::PRICES: {
      const auto from = body.getPrices();
      return PricesRecorded{string_of(from.getVersion()), string_of(from.getToml())};
    }
    case Body::BUDGET_SET: return read(body.getBudgetSet());
    case Body::BUDGET_REMOVED: return read(body.getBudgetRemoved());
    case Body::BUDGET_ROLLED: return read(body.getBudgetRolled());
    case Body::SLICE_GRANTED: {
      const auto from = body.getSliceGranted();
      return SliceGranted{string_of(from.getBudget()),
                          amount_of(from.getAmountHigh(), from.getAmountLow()),
                          uuid_of(from.getHolderHigh(), from.getHolderLow())};
    }
    case Body::SLICE_RETURNED: {
      const auto from = body.getSliceReturned();
      return SliceReturned{string_of(from.getBudget()),
                           amount_of(from.getAmountHigh(), from.getAmountLow()),
                           uuid_of(from.getHolderHigh(), from.getHolderLow())};
    }
    case Body::COMMITMENT_ADDED: return read(body.getCommitmentAdded());
    case Body::COMMITMENT_ENDED: return read(body.getCommitmentEnded());
    case Body::EXTEND: return read(body.getExtend());
    case Body::BREAKER_TRIPPED: return read(body.getBreakerTripped());
    case Body::BREAKER_RESET: return read(body.getBreakerReset());
    case Body::BREAKER_RULE: return read(body.getBreakerRule());
    case Body::OWNER_STARTED: return read(body.getOwnerStarted());
    case Body::HOLDER_ENDED: return read(body.getHolderEnded());
    case Body::NODE_ENROLLED: return read(body.getNodeEnrolled());
    case Body::NODE_CHANGED: return read(body.getNodeChanged());
    case Body::JOIN_TOKEN_MADE: return read(body.getJoinTokenMade());
    case Body::SETTING_SET: return read(body.getSettingSet());
    case Body::ALLOTTED: return read_allotment<AllotmentGranted>(body.getAllotted());
    case Body::ALLOTMENT_RETURNED:
      return read_allotment<AllotmentReturned>(body.getAllotmentReturned());
  }
  return std::nullopt;
}

}  // namespace

struct LedgerEncoder::Impl {
  std::array<capnp::word, scratch_words>
      scratch{};  // zero between messages; the builder sees to it

  template <class Fill>
  std::size_t append(std::string& out, const EntryHeader& header, const Fill& fill_body) {
    capnp::MallocMessageBuilder message(kj::arrayPtr(scratch.data(), scratch.size()));
    auto entry = message.initRoot<wire::LedgerEntry>();
    entry.setEpoch(header.epoch);
    entry.setIndex(header.index);
    entry.setTimeMs(header.time_ms);
    fill_body(entry.getBody());
    const auto segments = message.getSegmentsForOutput();
    if (segments.size() != 1) {
      const auto flat = capnp::messageToFlatArray(segments);
      const auto bytes = flat.asBytes();
      out.append(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
      return bytes.size();
    }
    const auto bytes = segments[0].asBytes();
    const std::uint32_t table[2] = {0, static_cast<std::uint32_t>(segments[0].size())};
    out.append(reinterpret_cast<const char*>(table), sizeof(table));
    out.append(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
    return sizeof(table) + bytes.size();
  }
};

LedgerEncoder::LedgerEncoder() : impl_(std::make_unique<Impl>()) {}
LedgerEncoder::~LedgerEncoder() = default;

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const IncarnationStarted& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    auto to = entry.initIncarnation();
    put_id(to, body.incarnation);
    to.setSoftware(text_of(body.software));
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const Reservation& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initReserve(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const AttemptLine& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initAttempt(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const Settlement& body, PicoUsd overrun) {
  return impl_->append(out, header, [&body, overrun](wire::LedgerEntry::Body::Builder entry) {
    auto to = entry.initSettle();
    to.setOverrunHigh(high_of(overrun));
    to.setOverrunLow(low_of(overrun));
    fill(to.initAttempt(), body.attempt);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const VoidReservation& body, PicoUsd overrun) {
  return impl_->append(out, header, [&body, overrun](wire::LedgerEntry::Body::Builder entry) {
    auto to = entry.initVoided();
    put_id(to, body.request_id);
    to.setOverrunHigh(high_of(overrun));
    to.setOverrunLow(low_of(overrun));
    to.setReason(text_of(body.reason));
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const VirtualKey& created) {
  return impl_->append(out, header, [&created](wire::LedgerEntry::Body::Builder entry) {
    auto to = entry.initKeyCreated();
    to.setId(text_of(created.id));
    to.setOrganisation(text_of(created.tenant.organisation));
    to.setTeam(text_of(created.tenant.team));
    to.setUser(text_of(created.tenant.user));
    to.setName(text_of(created.name));
    to.setHash(capnp::Data::Reader(created.hash.data(), created.hash.size()));
    to.setCreatedMs(created.created_ms);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const KeyRevoked& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    entry.initKeyRevoked().setId(text_of(body.key_id));
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const PricesRecorded& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    auto to = entry.initPrices();
    to.setVersion(text_of(body.version));
    to.setToml(text_of(body.toml));
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const BudgetSet& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initBudgetSet(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const BudgetRemoved& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initBudgetRemoved(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const BudgetRolled& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initBudgetRolled(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const SliceGranted& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initSliceGranted(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const SliceReturned& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initSliceReturned(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const CommitmentAdded& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initCommitmentAdded(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const CommitmentEnded& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initCommitmentEnded(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const ReservationExtension& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initExtend(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const BreakerTripped& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initBreakerTripped(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const BreakerReset& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initBreakerReset(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const BreakerRuleChange& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initBreakerRule(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const OwnerStarted& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initOwnerStarted(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const HolderEnded& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initHolderEnded(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const NodeEnrolled& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initNodeEnrolled(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const NodeChanged& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initNodeChanged(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const JoinTokenMade& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initJoinTokenMade(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const SettingSet& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initSettingSet(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const AllotmentGranted& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initAllotted(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const EntryHeader& header,
                                  const AllotmentReturned& body) {
  return impl_->append(out, header, [&body](wire::LedgerEntry::Body::Builder entry) {
    fill(entry.initAllotmentReturned(), body);
  });
}

std::size_t LedgerEncoder::append(std::string& out, const LedgerEntry& entry) {
  return std::visit(
      [this, &out, &entry]<class Body>(const Body& body) {
        if constexpr (std::is_same_v<Body, Settled>) {
          return append(out, entry.header, body.settlement, body.overrun);
        } else if constexpr (std::is_same_v<Body, Voided>) {
          return append(out, entry.header, body.reservation, body.overrun);
        } else if constexpr (std::is_same_v<Body, KeyCreated>) {
          return append(out, entry.header, body.key);
        } else {
          return append(out, entry.header, body);
        }
      },
      entry.body);
}

Result<LedgerEntry> decode_ledger_entry(std::string_view frame) {
  if (frame.size() > ledger_frame_bytes_max) {
    return fail(LedgerCodecError::too_large, "an entry of " + std::to_string(frame.size()) +
                                                 " bytes is over the limit of " +
                                                 std::to_string(ledger_frame_bytes_max));
  }
  if (frame.size() < 2 * sizeof(capnp::word) || frame.size() % sizeof(capnp::word) != 0) {
    return fail(LedgerCodecError::malformed,
                "an entry of " + std::to_string(frame.size()) + " bytes is no frame");
  }
  // Values of the store are not aligned; Cap'n Proto reads words.
  std::array<capnp::word, scratch_words> small;
  kj::Array<capnp::word> large;
  capnp::word* words = small.data();
  const std::size_t count = frame.size() / sizeof(capnp::word);
  if (count > small.size()) {
    large = kj::heapArray<capnp::word>(count);
    words = large.begin();
  }
  std::memcpy(static_cast<void*>(words), frame.data(), frame.size());
  try {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = 2 * count + 64;
    options.nestingLimit = nesting_max;
    capnp::FlatArrayMessageReader reader(kj::arrayPtr(words, count), options);
    if (reader.getEnd() != words + count)
      return fail(LedgerCodecError::malformed, "bytes follow the entry's frame");
    const auto from = reader.getRoot<wire::LedgerEntry>();
    std::optional<EntryBody> body = read(from.getBody());
    if (!body)
      return fail(LedgerCodecError::unknown_kind,
                  "an entry of a kind that this version does not know; upgrade");
    return LedgerEntry{{from.getEpoch(), from.getIndex(), from.getTimeMs()}, std::move(*body)};
  } catch (const Malformed& malformed) {
    return fail(LedgerCodecError::malformed, std::string("the entry holds ") + malformed.what);
  } catch (const kj::Exception& exception) {
    return fail(LedgerCodecError::malformed,
                std::string("not an entry's frame: ") + exception.getDescription().cStr());
  }
}

}  // namespace outlast::proto
