// Presences and owners as the JSON that stands in etcd, so that a person can read it there with etcdctl.
#pragma once

#include <string>
#include <string_view>

#include "cluster/coordination.hpp"

namespace outlast::cluster {

std::string encode_presence(const Presence& presence);
// Unknown members are skipped, so that a later version may add some. Any text gives a presence with a node's name and
// an incarnation, or false.
bool parse_presence(std::string_view text, Presence& presence);
std::string encode_owner(const Presence& owner);
// Fills node and incarnation.
bool parse_owner(std::string_view text, Ownership& owner);

}  // namespace outlast::cluster
