// Endpoint: where a node listens for clients, and who it must be.
#pragma once

#include <string>

namespace outlast::cluster {

struct Endpoint {
  std::string address;     // "tcp://HOST:PORT"
  std::string server_key;  // the node's public key, Z85; on the node it stands in DATA/zmq.key.pub
  bool operator==(const Endpoint&) const = default;
};

}  // namespace outlast::cluster
