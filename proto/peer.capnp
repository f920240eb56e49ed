# What the nodes of a cluster say to each other over ZeroMQ with CURVE, below what their shards and actors say: those
# are the opaque `frames` of a data message. One message is one part. Rules of evolution: ids are explicit, only higher
# numbers are added, nothing changes type, number or default; readers ignore kinds and channels that they do not know.
# The plain structs that mirror this file: proto/peer_codec.hpp.
@0x9d4c1f6f3a5b7e21;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outlast::peer::schema");

# What arrived on one channel in the other direction.
struct Ack @0xd1a6c0e27b3f4801 {
  received @0 :UInt64;   # every frame below this number
  lostRound @1 :UInt32;  # a gap was seen in this round: send again from `received` on; 0: none
}

struct PeerFrame @0xd1a6c0e27b3f4802 {
  fromSession @0 :UInt64;  # the sender's number of this link
  toSession @1 :UInt64;    # the receiver's, as the sender knows it; 0: it does not yet
  union {
    hello :group {
      cluster @2 :Text;
      node @3 :Text;
      incarnationHigh @4 :UInt64;  # the first eight bytes of a UUID, big-endian
      incarnationLow @5 :UInt64;
      versionMin @6 :UInt16;
      versionMax @7 :UInt16;
      channel @8 :UInt8;
      frameBytesMax @9 :UInt32;  # no larger frame is taken
    }
    welcome :group {  # answers a hello on the channel of the same number
      version @10 :UInt16;
      channel @11 :UInt8;
    }
    data :group {
      channel @12 :UInt8;
      round @13 :UInt32;   # counts how often the sender went back: 1, 2, …
      first @14 :UInt64;   # the number of frames[0]; the channel's first frame is 1
      frames @15 :List(Data);
      acks @16 :List(Ack);  # by channel
      ackWanted @17 :Bool;  # the sender's queue fills
    }
    heartbeat :group {
      channel @18 :UInt8;
      round @19 :UInt32;
      next @20 :UInt64;  # the number of the next frame: what is below was sent on this channel
      acks @21 :List(Ack);
    }
    goodbye @22 :Text;  # this link ends; why, for people
  }
}
