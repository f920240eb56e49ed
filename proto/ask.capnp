# What nodes say to each other on the control channel of their links: requests to remote actors, lists of workers, and
# what requests spend.
# Rules of evolution: as in link.capnp. The plain structs that mirror this file: proto/ask_codec.hpp.
@0xd7a41c0e5b92f3a6;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outlast::ask::schema");

struct Worker @0xe3c15a70942bd801 {
  name @0 :Text;
  device @1 :Text;
  memoryBytes @2 :UInt64;
  capabilities @3 :List(Text);
}

struct Shard @0xe3c15a70942bd802 {
  shard @0 :UInt16;
  owned @1 :Bool;
  appliedIndex @2 :UInt64;
  lagEntries @3 :UInt64;
}

# The bodies of asks and answers.

struct NodeReport @0xe3c15a70942bd803 {
  name @0 :Text;
  roles @1 :List(Text);
  incarnationHigh @2 :UInt64;
  incarnationLow @3 :UInt64;
  software @4 :Text;
  draining @5 :Bool;
  requestsInFlight @6 :UInt64;
  shards @7 :List(Shard);
  workers @8 :List(Worker);
}

struct WorkerCall @0xe3c15a70942bd804 {
  method @0 :UInt16;  # the engine's; also of an answer, where it means nothing
  body @1 :Data;
}

# What a node's lanes saw being spent, for the spend breakers of the others.

struct SpendKey @0xe3c15a70942bd805 {  # places in `texts`, from 1; 0: empty
  id @0 :UInt16;
  organisation @1 :UInt16;
  team @2 :UInt16;
  user @3 :UInt16;
}

struct SpendEvent @0xe3c15a70942bd806 {
  key @0 :UInt16;         # a place in `keys`
  session @1 :UInt16;     # this and the next two: places in `texts`
  provider @2 :UInt16;
  model @3 :UInt16;
  ended @4 :Bool;
  tags @5 :List(UInt16);  # places in `texts`
  conversation @6 :UInt64;
  request @7 :UInt64;
  costHigh @8 :Int64;     # picoUSD, 128 bits
  costLow @9 :UInt64;
  ageMs @10 :UInt32;      # of the event when the batch was sent: clocks of two machines have nothing in common
  durationMs @11 :UInt32; # from the request's start to the event
}

struct SpendBatch @0xe3c15a70942bd807 {
  first @0 :UInt64;  # the first event's number, counted over all that this incarnation of the node has told
  texts @1 :List(Text);
  keys @2 :List(SpendKey);
  events @3 :List(SpendEvent);
}

# One frame of the control channel.
struct ControlFrame @0xe3c15a70942bd810 {
  union {
    ask :group {
      id @0 :UInt64;  # of the asking node's incarnation, used once
      actor @1 :Text;
      method @2 :UInt16;
      deadlineMs @3 :UInt32;  # from the arrival of this frame
      body @4 :Data;
    }
    answer :group {
      id @5 :UInt64;
      body @6 :Data;
    }
    failed :group {
      id @7 :UInt64;
      module @8 :Text;  # core/result.hpp
      code @9 :UInt16;
      message @10 :Text;
      fromActor @11 :Bool;  # the actor's own answer; else it gave none
    }
    cancel @12 :UInt64;  # nobody waits for this ask any more
    down :group {        # an actor that this node served has ended
      actor @13 :Text;
      why @14 :Text;
    }
    workers :group {  # all workers of this node
      version @15 :UInt64;  # higher with every change within an incarnation
      workers @16 :List(Worker);
    }
    spend @17 :SpendBatch;
    told @18 :List(Text);  # deliveries of spend breakers that have reached people
  }
}
