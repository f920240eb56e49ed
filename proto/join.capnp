# What a machine that wants to become a node of a cluster and the node that it asks say to each other, over ZeroMQ with
# CURVE. One message is one frame; a joiner sends one and gets one.
# Rules of evolution: ids are explicit, only higher numbers are added, nothing changes type, number or default; readers
# ignore kinds and enumerants that they do not know. The plain structs that mirror this file: proto/join_codec.hpp.
@0xd7a1c05e9b3f4c20;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outlast::join::schema");

# Joiner to node. Whose CURVE key it is, the link itself says.
struct Request @0xd7a1c05e9b3f4c21 {
  versionMin @0 :UInt16;  # of this protocol, both inclusive
  versionMax @1 :UInt16;
  tokenId @2 :Text;
  secret @3 :Data;        # of the token, 32 bytes
  name @4 :Text;          # that the node is to have
  endpoint @5 :Text;      # where other nodes reach it: tcp://HOST:PORT
  roles @6 :List(Text);
  software @7 :Text;      # the program and its version
}

struct Node @0xd7a1c05e9b3f4c22 {
  name @0 :Text;
  publicKey @1 :Text;     # CURVE, Z85
  endpoint @2 :Text;
}

struct Setting @0xd7a1c05e9b3f4c23 {
  name @0 :Text;
  value @1 :Text;
}

# Node to joiner.
struct Answer @0xd7a1c05e9b3f4c24 {
  union {
    welcome :group {
      version @0 :UInt16;           # the highest that both speak
      cluster @1 :Text;
      secret @2 :Text;              # that all nodes share: what virtual keys are hashed with, hexadecimal
      nodes @3 :List(Node);         # that take part, without the joiner
      settings @4 :List(Setting);   # that a node needs before it has the control log
    }
    refused :group {
      kind @5 :UInt16;              # RefusalKind in proto/join_codec.hpp, append-only
      message @6 :Text;
    }
  }
}
