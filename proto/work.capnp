# What a GPU worker can be asked, and what it says of its work: the bodies of asks and answers (ask.capnp) by the method
# numbers of work_codec.hpp. Files and folders are the worker's machine's.
# Rules of evolution: as in link.capnp. The plain structs that mirror this file: proto/work_codec.hpp.
@0xb2f06c81d94e7a35;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outlast::work::schema");

# A new model's; everything else follows from its tokenizer.
struct Shape @0xb2f06c81d94e7a36 {
  hidden @0 :UInt32;
  intermediate @1 :UInt32;
  layers @2 :UInt32;
  heads @3 :UInt32;
  kvHeads @4 :UInt32;
  headDim @5 :UInt32;
}

# How a teacher's distribution is learned.
struct Distillation @0xb2f06c81d94e7a43 {
  teacher @0 :Text;          # folder of the model that teaches; empty: the training file has what a teacher said
  loss @1 :Text;             # forward-kl, reverse-kl, jsd or skew-kl; empty: nothing is learned of a teacher
  temperature @2 :Float64;
  mix @3 :Float64;           # beta of jsd, alpha of skew-kl
  crossEntropy @4 :Float64;  # its share of the loss, from 0 to 1
}

# Where the ranks of a run meet (gpu/collective/rendezvous_server.hpp). Every rank's worker is asked for the same work.
struct Ranks @0xb2f06c81d94e7a44 {
  count @0 :UInt32;   # 0: the worker trains alone
  address @1 :Text;   # numeric
  port @2 :UInt16;
  secret @3 :Text;    # of the run: whoever knows it may take part
}

struct Train @0xb2f06c81d94e7a37 {
  model @0 :Text;         # the folder to begin from; empty: a new model of `shape`
  shape @1 :Shape;
  tokenizer @2 :Text;     # tokenizer.json of a new model
  data @3 :Text;          # training file
  evaluation @4 :Text;    # the same form, held out; empty: none
  output @5 :Text;        # folder of the student, and of checkpoints while it learns
  steps @6 :UInt64;
  batchSamples @7 :UInt32;
  rows @8 :UInt32;        # tokens of a micro-batch
  positions @9 :UInt32;   # of the longest sample
  rate @10 :Float64;
  schedule @11 :Text;
  warmUpSteps @12 :UInt64;
  decaySteps @13 :UInt64;
  weightDecay @14 :Float64;
  clip @15 :Float64;
  seed @16 :UInt64;
  recompute @17 :Bool;
  evaluateEvery @18 :UInt64;  # steps; 0: at the end only
  saveEvery @19 :UInt64;
  patience @20 :UInt32;       # evaluations without a better one, then it stops; 0: never
  resume @21 :Bool;
  epochs @22 :Float64;        # passes over the data, where `steps` is 0
  # Of an adapter beside `model`, whose weights then stay as they are.
  loraRank @23 :UInt32;       # 0: none, every weight is learned
  loraAlpha @24 :Float64;     # 0: twice the rank
  loraTargets @25 :List(Text);  # names of projections; none: all
  distillation @26 :Distillation;
  ranks @27 :Ranks;
}

struct Evaluate @0xb2f06c81d94e7a38 {
  model @0 :Text;
  data @1 :Text;
  rows @2 :UInt32;
  positions @3 :UInt32;
}

struct Message @0xb2f06c81d94e7a39 {
  role @0 :Text;
  content @1 :Text;
}

struct Prompt @0xb2f06c81d94e7a3a {
  messages @0 :List(Message);
}

struct Generate @0xb2f06c81d94e7a3b {
  model @0 :Text;
  prompts @1 :List(Prompt);
  tokensMax @2 :UInt32;       # of each answer
  temperature @3 :Float64;    # 0: the likeliest token
  topP @4 :Float64;
  topK @5 :UInt32;
  seed @6 :UInt64;
  stop @7 :List(Text);
  labels @8 :List(Text);      # the answer is one of these
  jsonSchema @9 :Text;        # or valid by this
  thinking @10 :Bool;
}

struct Start @0xb2f06c81d94e7a3c {
  union {
    train @0 :Train;
    evaluate @1 :Evaluate;
    generate @2 :Generate;
    trainAdapter @3 :Train;  # with loraRank: a worker that does not know LoRA refuses it, where it would learn every weight
    distil @4 :Train;        # with a loss of `distillation`, and with loraRank or without: a worker that knows no teacher refuses it
    trainRank @5 :Train;     # with ranks, and any of these: a worker that knows none refuses it, where it would train alone
  }
}

struct Job @0xb2f06c81d94e7a3d {
  id @0 :UInt64;  # of this run of the worker
}

struct Next @0xb2f06c81d94e7a3e {
  job @0 :UInt64;
  after @1 :UInt64;   # events that are known
  waitMs @2 :UInt32;  # for the first new one
}

struct Figure @0xb2f06c81d94e7a3f {
  name @0 :Text;
  value @1 :Float64;
}

struct Event @0xb2f06c81d94e7a40 {
  kind @0 :UInt16;  # EventKind in proto/work_codec.hpp, append-only
  text @1 :Text;
  figures @2 :List(Figure);
  errorModule @3 :Text;  # of `failed`
  errorCode @4 :UInt16;
}

struct Events @0xb2f06c81d94e7a41 {
  first @0 :UInt64;  # number of the first event here; more than asked for where the worker forgot some
  events @1 :List(Event);
  ended @2 :Bool;    # no more will come
}

struct Status @0xb2f06c81d94e7a42 {
  memoryBytes @0 :UInt64;
  memoryFreeBytes @1 :UInt64;
  temperatureC @2 :Float32;  # NaN: the device does not tell
  running @3 :UInt64;        # the job at work; 0: none
  waiting @4 :UInt32;
  software @5 :Text;
}
