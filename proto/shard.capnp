# What gateway processes (holders) and the owner of a ledger shard say to each other, over a link between nodes. One
# message is one frame. Rules of evolution: ids are explicit, only higher numbers are added, nothing changes type, number
# or default; readers ignore kinds that they do not know. The plain structs that mirror this file, and what each message
# means: proto/shard_codec.hpp.
@0xa7d1c06be93f2458;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outlast::shard::schema");

struct Id @0xc4d90b6a17e53f01 {
  high @0 :UInt64;  # the first eight bytes of a UUID, big-endian
  low @1 :UInt64;
}

struct Amount @0xc4d90b6a17e53f02 {
  high @0 :Int64;  # of a signed 128-bit integer of 1e-12 US dollars
  low @1 :UInt64;
}

struct SliceReturn @0xc4d90b6a17e53f03 {
  budget @0 :Text;
  opened @1 :UInt64;
  total @2 :Amount;
  recall @3 :UInt64;
}

struct Operation @0xc4d90b6a17e53f04 {
  union {
    skipped @0 :Void;
    entry @1 :Data;  # a ledger entry's frame (ledger.capnp)
    sliceReturn @2 :SliceReturn;
  }
}

struct BudgetDemand @0xc4d90b6a17e53f05 {
  budget @0 :Text;
  opened @1 :UInt64;
  seen @2 :Amount;
  wanted @3 :Amount;
  left @4 :Amount;
}

struct Shortfall @0xc4d90b6a17e53f06 {
  budget @0 :Text;
  name @1 :Text;
  amount @2 :Amount;
  left @3 :Amount;
  needed @4 :Amount;
  period @5 :UInt8;  # outlast::BudgetPeriod
  resetsMs @6 :Int64;
}

struct Refusal @0xc4d90b6a17e53f07 {
  sequence @0 :UInt64;
  error @1 :UInt16;  # storage::LedgerError
  message @2 :Text;
  shortfall @3 :Shortfall;  # of budget_exhausted, else absent
}

struct Grant @0xc4d90b6a17e53f08 {
  budget @0 :Text;
  opened @1 :UInt64;
  total @2 :Amount;
}

struct BudgetRecall @0xc4d90b6a17e53f09 {
  grant @0 :Grant;
  keep @1 :Amount;
}

struct ShardProgress @0xc4d90b6a17e53f11 {
  shard @0 :UInt16;
  applied @1 :UInt64;
  takes @2 :Bool;  # the node could own it
}

# From a shard that a budget or a commitment is not at home in.
struct AllotmentAsk @0xc4d90b6a17e53f12 {
  subject @0 :Text;
  commitment @1 :Bool;
  opened @2 :UInt64;
  granted @3 :Amount;
  returned @4 :Amount;
  periodStartMs @5 :Int64;
  needed @6 :Amount;
  ask @7 :UInt64;
  wanted @8 :Amount;
  recall @9 :UInt64;
}

# From the home.
struct AllotmentTerm @0xc4d90b6a17e53f13 {
  subject @0 :Text;
  commitment @1 :Bool;
  opened @2 :UInt64;
  granted @3 :Amount;
  returned @4 :Amount;
  periodStartMs @5 :Int64;
  answered @6 :UInt64;
  recall @7 :UInt64;
}

struct ShardMessage @0xc4d90b6a17e53f10 {
  shard @0 :UInt16;
  epoch @1 :UInt64;
  union {
    operations :group {
      holder @2 :Id;
      stream @3 :UInt64;
      base @4 :UInt64;
      first @5 :UInt64;
      confirmed @6 :UInt64;
      urgent @7 :Bool;
      operations @8 :List(Operation);
    }
    demand :group {
      holder @9 :Id;
      budgets @10 :List(BudgetDemand);
    }
    acknowledgement :group {
      holder @11 :Id;
      stream @12 :UInt64;
      number @13 :UInt64;
      upTo @14 :UInt64;
      resendFrom @15 :UInt64;
      waiting @16 :List(UInt64);
      refusals @17 :List(Refusal);
    }
    grants :group {
      holder @18 :Id;
      grants @19 :List(Grant);
    }
    recall :group {
      holder @20 :Id;
      number @21 :UInt64;
      budgets @22 :List(BudgetRecall);
    }
    notOwner :group {
      holder @23 :Id;
      stream @24 :UInt64;
      newestStream @25 :UInt64;
      ownerNode @26 :Text;
      ownerEpoch @27 :UInt64;
    }
    endHolder :group {
      holder @28 :Id;
      spent @29 :Bool;
      why @30 :Text;
    }
    holderEnded @31 :Id;
    tail @32 :UInt64;      # the index after the last entry
    progress @33 :UInt64;  # the index after the last entry that is applied
    nodeProgress :group {
      incarnation @34 :Id;
      shards @35 :List(ShardProgress);
    }
    free @36 :Void;        # by a former owner: the shard is the receiver's to claim
    allotmentDemand :group {
      from @37 :UInt16;
      asks @38 :List(AllotmentAsk);
    }
    allotmentTerms :group {
      from @39 :UInt16;
      terms @40 :List(AllotmentTerm);
    }
    batch @41 :Data;       # of the shared log, as it has it: it stands there
  }
}
