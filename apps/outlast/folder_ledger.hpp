// The ledger in a node's data folder, or those of a cluster's node, read without a node. Nothing is written.
#pragma once

#include <memory>
#include <string>

#include "apps/outlast/ledger_source.hpp"

namespace outlast::apps {

// `data` is the node's data folder. Refused while a node has the ledger open; of a cluster's node, when a shard is read.
Result<std::unique_ptr<LedgerSource>> open_folder_ledger(const std::string& data);

}  // namespace outlast::apps
