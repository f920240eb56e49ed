// The ledger in a node's data folder, read without a node. Nothing is written.
#pragma once

#include <memory>
#include <string>

#include "apps/outlast/ledger_source.hpp"

namespace outlast::apps {

// `data` is the node's data folder. Refused while a node has the ledger open.
Result<std::unique_ptr<LedgerSource>> open_folder_ledger(const std::string& data);

}  // namespace outlast::apps
