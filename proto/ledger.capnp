# Ledger entries as they are stored and hashed: one flat, unpacked frame each. Append-only: fields and kinds are added
# at the end and never change their meaning, so that entries of every version still decode (docs/ledger.md).
@0xb3c9a1f04d7e52c6;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outlast::proto::wire");

struct LedgerEntry {
  epoch @0 :UInt64;
  index @1 :UInt64;
  timeMs @2 :Int64;     # since 1970 UTC; never less than that of the entry before
  body :union {
    incarnation @3 :IncarnationStarted;
    reserve @4 :Reservation;
    attempt @5 :Attempt;
    settle @6 :Settlement;
    voided @7 :Voided;
    keyCreated @8 :KeyCreated;
    keyRevoked @9 :KeyRevoked;
    prices @10 :PricesRecorded;
    budgetSet @11 :BudgetSet;
    budgetRemoved @12 :BudgetRemoved;
    budgetRolled @13 :BudgetRolled;
    sliceGranted @14 :SliceMoved;
    sliceReturned @15 :SliceMoved;
    commitmentAdded @16 :CommitmentAdded;
    commitmentEnded @17 :CommitmentEnded;
    extend @18 :Extension;
    breakerTripped @19 :BreakerTripped;
    breakerReset @20 :BreakerReset;
    breakerRule @21 :BreakerRule;
    ownerStarted @22 :OwnerStarted;
    holderEnded @23 :HolderEnded;
    nodeEnrolled @24 :NodeEnrolled;
    nodeChanged @25 :NodeChanged;
    joinTokenMade @26 :JoinTokenMade;
    settingSet @27 :SettingSet;
    allotted @28 :AllotmentMoved;
    allotmentReturned @29 :AllotmentMoved;
  }
}

# A 128-bit id is two words: the first eight of its bytes as a big-endian number, then the last eight.
# An amount is a signed 128-bit integer of 1e-12 US dollars: its high word (signed) and its low word.

struct IncarnationStarted {
  idHigh @0 :UInt64;
  idLow @1 :UInt64;
  software @2 :Text;
}

struct Reservation {
  idHigh @0 :UInt64;
  idLow @1 :UInt64;
  amountHigh @2 :Int64;
  amountLow @3 :UInt64;
  inputTokensMax @4 :UInt64;
  outputTokensMax @5 :UInt64;
  priceKnown @6 :Bool;
  organisation @7 :Text;
  team @8 :Text;
  user @9 :Text;
  keyId @10 :Text;
  route @11 :Text;
  tags @12 :List(Text);
  session @13 :Text;
  candidates @14 :List(Purchase);
  fromSlices @15 :Bool;
  idempotencyKey @16 :Data;         # 32 bytes, or absent with the next
  idempotencyParameters @17 :Data;
  holderHigh @18 :UInt64;           # the incarnation that reserved it, in a cluster; zero: the one that wrote the entry
  holderLow @19 :UInt64;
}

struct Purchase {
  provider @0 :Text;
  model @1 :Text;
}

# More for an open reservation.
struct Extension {
  idHigh @0 :UInt64;
  idLow @1 :UInt64;
  amountHigh @2 :Int64;
  amountLow @3 :UInt64;
  outputTokens @4 :UInt64;
  number @5 :UInt16;
  fromSlices @6 :Bool;
}

struct Attempt {
  idHigh @0 :UInt64;
  idLow @1 :UInt64;
  costHigh @2 :Int64;
  costLow @3 :UInt64;
  number @4 :UInt16;
  httpStatus @5 :UInt16;
  status @6 :UInt8;           # outlast::AttemptStatus
  usageSource @7 :UInt8;      # outlast::UsageSource
  priceKnown @8 :Bool;
  firstEventMs @9 :UInt32;
  durationMs @10 :UInt32;
  inputUncached @11 :UInt64;
  inputCacheRead @12 :UInt64;
  outputText @13 :UInt64;
  outputReasoning @14 :UInt64;
  deployment @15 :Text;
  provider @16 :Text;
  model @17 :Text;
  priceVersion @18 :Text;
  rareUsage @19 :RareUsage;   # absent when all of it is zero
  serviceTier @20 :Text;      # as answered; absent where nothing was said, and so is the next
  inferenceGeo @21 :Text;     # or the provider's configured region
  batch @22 :Bool;
  contract @23 :Text;         # of the provider, as configured; absent for none
}

struct RareUsage {
  inputCacheWrite5m @0 :UInt64;
  inputCacheWrite1h @1 :UInt64;
  inputAudio @2 :UInt64;
  inputImage @3 :UInt64;
  outputAudio @4 :UInt64;
  images @5 :UInt64;          # what is billed by the piece
  seconds @6 :UInt64;
  queries @7 :UInt64;
  sessions @8 :UInt64;
}

struct Settlement {
  attempt @0 :Attempt;
  overrunHigh @1 :Int64;      # what all attempts cost beyond the reserved amount
  overrunLow @2 :UInt64;
}

struct Voided {
  idHigh @0 :UInt64;
  idLow @1 :UInt64;
  overrunHigh @2 :Int64;
  overrunLow @3 :UInt64;
  reason @4 :Text;
}

struct KeyCreated {
  id @0 :Text;
  organisation @1 :Text;
  team @2 :Text;
  user @3 :Text;
  name @4 :Text;
  hash @5 :Data;              # 32 bytes
  createdMs @6 :Int64;
}

struct KeyRevoked {
  id @0 :Text;                # revoked at the entry's time
}

struct PricesRecorded {
  version @0 :Text;
  toml @1 :Text;
}

# A budget, new or changed.
struct BudgetSet {
  id @0 :Text;
  name @1 :Text;
  scopeKind @2 :UInt8;        # outlast::ScopeKind
  scope @3 :Text;
  amountHigh @4 :Int64;
  amountLow @5 :UInt64;
  period @6 :UInt8;           # outlast::BudgetPeriod
  soft @7 :Bool;
  timeZone @8 :Text;
  by @9 :Text;                # who set it
  periodStartMs @10 :Int64;   # the period that the entry's time lies in
  periodEndMs @11 :Int64;     # exclusive; 0 when it never ends
  away @12 :Bool;             # another ledger is its home: spends here what that allots
}

struct BudgetRemoved {
  id @0 :Text;
  by @1 :Text;
}

# A new period began: nothing is used in it yet.
struct BudgetRolled {
  id @0 :Text;
  periodStartMs @1 :Int64;
  periodEndMs @2 :Int64;
}

# Money of a budget, to or from the slice of a holder.
struct SliceMoved {
  budget @0 :Text;
  amountHigh @1 :Int64;
  amountLow @2 :UInt64;
  holderHigh @3 :UInt64;      # an incarnation, in a cluster; zero: the one that wrote the entry
  holderLow @4 :UInt64;
}

struct CommitmentAdded {
  id @0 :Text;
  provider @1 :Text;
  models @2 :List(Text);      # none: all of the provider's
  unit @3 :UInt8;             # outlast::CommitmentUnit
  rollover @4 :Bool;
  unitsHigh @5 :Int64;
  unitsLow @6 :UInt64;
  priceHigh @7 :Int64;
  priceLow @8 :UInt64;
  fromMs @9 :Int64;
  untilMs @10 :Int64;
  by @11 :Text;
  away @12 :Bool;             # as of a budget
}

struct CommitmentEnded {
  id @0 :Text;
  by @1 :Text;
}

# A spend breaker opened.
struct BreakerTripped {
  id @0 :Text;                # follows from the rule and from what it is about
  rule @1 :Text;
  scope @2 :Text;             # KIND:VALUE
  session @3 :Text;           # one session or request of that scope; empty: all of it
  action @4 :UInt8;           # outlast::SpendAction
  why @5 :Text;
}

struct BreakerReset {
  id @0 :Text;
  by @1 :Text;                # who closed it
  reason @2 :Text;
  allowanceHigh @3 :Int64;    # may be spent before it can open again
  allowanceLow @4 :UInt64;
}

# A rule made by API, new or changed.
struct BreakerRule {
  name @0 :Text;
  definition @1 :Text;        # JSON (docs/breakers.md); empty: removed
  by @2 :Text;
  reason @3 :Text;
}

# In a cluster: another process owns the shard from here on. Slices and open reservations stay with their holders.
struct OwnerStarted {
  idHigh @0 :UInt64;          # its incarnation
  idLow @1 :UInt64;
  node @2 :Text;
  software @3 :Text;
}

# A holder will ask for nothing more. Its slices end; its open reservations were settled before.
struct HolderEnded {
  idHigh @0 :UInt64;
  idLow @1 :UInt64;
  spent @2 :Bool;             # what its slices held counts as used, since nobody knows; else it returns to the budgets
  why @3 :Text;
}

# A node may take part, or has another address or other roles now.
struct NodeEnrolled {
  name @0 :Text;
  publicKey @1 :Text;         # CURVE, Z85
  endpoint @2 :Text;          # where other nodes reach it: tcp://HOST:PORT
  roles @3 :List(Text);
  token @4 :Text;             # the join token's id, used up by this; empty for the founder and for changes
  by @5 :Text;
  idHigh @6 :UInt64;          # the incarnation of its latest process, a holder of slices; zero: none yet
  idLow @7 :UInt64;
}

struct NodeChanged {
  name @0 :Text;
  state @1 :UInt8;            # outlast::NodeState
  by @2 :Text;
  reason @3 :Text;
}

# Lets one node in, once.
struct JoinTokenMade {
  id @0 :Text;
  hash @1 :Data;              # SHA-256 of the secret part, 32 bytes
  expiresMs @2 :Int64;
  by @3 :Text;
}

# A value that all nodes of a cluster go by.
struct SettingSet {
  name @0 :Text;
  value @1 :Text;             # empty: removed
  by @2 :Text;
}

# In a cluster: part of a budget, or of a commitment, from its home's ledger to another one, and back. Each of the two
# has an entry about it.
struct AllotmentMoved {
  subject @0 :Text;           # the budget's id, or the commitment's
  commitment @1 :Bool;
  shard @2 :UInt16;           # the other one: at home the one that has the allotment, there the home
  amountHigh @3 :Int64;       # of a commitment: units, as two words as well
  amountLow @4 :UInt64;
  opened @5 :UInt64;          # the index of the home's entry that opened the allotment; zero in that one
}
