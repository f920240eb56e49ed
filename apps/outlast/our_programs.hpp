// Where the other programs of Outlast are.
#pragma once

#include <string>

namespace outlast::apps {

// In PATH, /usr/sbin or /sbin; empty where it is not there.
std::string find_in_path(const std::string& program);

// Beside this program first, then in PATH: what was built together is used together. Empty where it is not there.
std::string find_our_program(const std::string& program);

}  // namespace outlast::apps
