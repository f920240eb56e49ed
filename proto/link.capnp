# What a service's client and a node say to each other over ZeroMQ with CURVE. One message is one frame.
# Rules of evolution: ids are explicit, only higher numbers are added, nothing changes type, number or default; readers
# ignore kinds and enumerants that they do not know. The plain structs that mirror this file: proto/link_codec.hpp.
@0x85ab951f200d87e5;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outlast::link::schema");

struct Id @0xb0d2ab9f5fd35c01 {
  high @0 :UInt64;  # the first eight bytes of a UUID, big-endian
  low @1 :UInt64;
}

struct Credit @0xb0d2ab9f5fd35c02 {
  chunks @0 :UInt32;  # events
  bytes @1 :UInt32;   # of frames
}

struct Usage @0xb0d2ab9f5fd35c03 {
  inputUncached @0 :UInt64;
  inputCacheRead @1 :UInt64;
  inputCacheWrite5m @2 :UInt64;
  inputCacheWrite1h @3 :UInt64;
  inputAudio @4 :UInt64;
  inputImage @5 :UInt64;
  outputText @6 :UInt64;
  outputReasoning @7 :UInt64;
  outputAudio @8 :UInt64;
  source @9 :UInt8;  # core/usage.hpp
}

struct Part @0xb0d2ab9f5fd35c04 {
  union {
    text @0 :Text;
    image :group {
      mediaType @1 :Text;
      data @2 :Text;
      url @3 :Text;
    }
    toolCall :group {
      id @4 :Text;
      name @5 :Text;
      arguments @6 :Text;
    }
    toolResult :group {
      toolCallId @7 :Text;
      content @8 :Text;
      isError @9 :Bool;
    }
  }
  cacheControl @10 :Text;  # of text, image and toolResult: a provider's cache marker, as JSON
}

struct Message @0xb0d2ab9f5fd35c05 {
  role @0 :UInt8;  # core/chat.hpp
  parts @1 :List(Part);
}

struct Tool @0xb0d2ab9f5fd35c06 {
  name @0 :Text;
  description @1 :Text;
  parameters @2 :Text;
  cacheControl @3 :Text;
}

struct Request @0xb0d2ab9f5fd35c07 {
  model @0 :Text;
  messages @1 :List(Message);
  tools @2 :List(Tool);
  toolChoice @3 :UInt8;
  toolChoiceName @4 :Text;
  parallelToolCalls :union {
    unset @5 :Void;
    value @6 :Bool;
  }
  maxTokens :union {
    unset @7 :Void;
    value @8 :UInt64;
  }
  temperature :union {
    unset @9 :Void;
    value @10 :Float64;
  }
  topP :union {
    unset @11 :Void;
    value @12 :Float64;
  }
  stop @13 :List(Text);
  user @14 :Text;
  stream @15 :Bool;
  includeUsage @16 :Bool;
  extraJson @17 :Text;
  tags @18 :List(Text);  # for the node's ledger; no provider gets them
  session @19 :Text;
}

struct Event @0xb0d2ab9f5fd35c08 {
  union {
    start :group {
      id @0 :Text;
      model @1 :Text;
    }
    textDelta @2 :Text;
    reasoningDelta @3 :Text;
    toolCallStart :group {
      index @4 :UInt32;
      id @5 :Text;
      name @6 :Text;
    }
    toolCallDelta :group {
      index @7 :UInt32;
      arguments @8 :Text;
    }
    finish :group {
      reason @9 :UInt8;
      usage @10 :Usage;
    }
  }
}

# Where a client may go instead.
struct Node @0xb0d2ab9f5fd35c09 {
  name @0 :Text;
  address @1 :Text;    # tcp://HOST:PORT, for clients
  publicKey @2 :Text;  # CURVE, Z85
  draining @3 :Bool;   # takes no new requests
}

# Client to node.
struct ClientFrame @0xb0d2ab9f5fd35c10 {
  union {
    hello :group {
      protocolVersion @0 :UInt32;
      virtualKey @1 :Text;
      clientName @2 :Text;
      incarnation @3 :Id;
    }
    chat :group {
      requestId @4 :UInt64;  # unique within the link
      request @5 :Request;
      deadlineMs @6 :UInt32;  # from the arrival of this frame
      credit @7 :Credit;
    }
    credit :group {
      requestId @8 :UInt64;
      grant @9 :Credit;
    }
    cancel @10 :UInt64;  # the request id
    ping @11 :UInt64;    # any number, answered by a pong with the same
    pong @12 :UInt64;
  }
}

# Node to client.
struct NodeFrame @0xb0d2ab9f5fd35c11 {
  union {
    welcome :group {
      protocolVersion @0 :UInt32;
      nodeName @1 :Text;
      incarnation @2 :Id;
    }
    events :group {
      requestId @3 :UInt64;
      sequence @4 :UInt32;  # of this frame within its request: 0, 1, … without gaps
      events @5 :List(Event);
    }
    done :group {
      requestId @6 :UInt64;
      deployment @7 :Text;
      attempts @8 :UInt32;
      ledgerId @9 :Id;  # the request's id in the ledger
    }
    error :group {
      requestId @10 :UInt64;  # 0: the link itself
      kind @11 :UInt16;       # ErrorKind in proto/link_codec.hpp, append-only
      message @12 :Text;
      retryable @13 :Bool;
      retryAfterMs @14 :UInt32;  # 0: unknown
    }
    ping @15 :UInt64;
    pong @16 :UInt64;
    goodbye @17 :Text;  # the node drains: what runs goes on, new requests are refused; why, for people
    nodes :group {       # after the welcome, and whenever it changes
      version @18 :UInt64;  # the list with the highest is the newest, whichever node told it
      nodes @19 :List(Node);  # all that take clients, this one too
    }
  }
}
