#include "apps/outlast/text_file.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {

Result<std::string> read_text_file(const std::string& path, std::size_t bytes_max) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) {
      return fail(errno == ENOENT ? CliError::not_found : CliError::failed,
                  printable(path) + ": " + std::strerror(errno));
    }
  }
  std::istream& in = path == "-" ? std::cin : file;
  std::string text;
  char bytes[65'536];
  while (in.read(bytes, sizeof(bytes)) || in.gcount() > 0) {
    text.append(bytes, static_cast<std::size_t>(in.gcount()));
    if (text.size() > bytes_max) {
      return fail(CliError::failed, printable(path) + ": is larger than " +
                                        std::to_string(bytes_max) + " bytes; split it");
    }
  }
  if (in.bad()) return fail(CliError::failed, printable(path) + ": cannot be read");
  return text;
}

}  // namespace outlast::apps
