# How a node that lost a shard's store, or fell behind what the shared log keeps, takes it from a peer. Pulled: the node
# that takes asks for each piece, so what is under way is bounded by what it asked for.
@0xd3f5c0a4b7e91c52;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outlast::checkpoint::schema");

struct CheckpointMessage @0xc7a9a1f27e30d801 {
  transfer @0 :UInt64;          # made by the node that takes
  union {
    wanted @1 :UInt16;          # a shard
    manifest @2 :Manifest;
    read @3 :Place;
    chunk @4 :Chunk;
    ended @5 :Void;             # by the node that takes: it has all, or gives up
    failed @6 :Text;            # by the node that gives
  }
}

struct Manifest @0xc7a9a1f27e30d802 {
  nextIndex @0 :UInt64;         # of the copy
  files @1 :List(File);
}

struct File @0xc7a9a1f27e30d803 {
  name @0 :Text;                # relative, with at most one '/'
  bytes @1 :UInt64;
}

struct Place @0xc7a9a1f27e30d804 {
  file @0 :UInt32;              # in the manifest
  offset @1 :UInt64;
}

struct Chunk @0xc7a9a1f27e30d805 {
  place @0 :Place;
  data @1 :Data;
  crc @2 :UInt32;               # CRC-32 of data
}
