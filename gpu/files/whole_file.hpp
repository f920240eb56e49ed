// Files that are there whole or not at all, and small ones in memory. Weights are read by position (safetensors.hpp).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast::gpu {

// Errors: io (with the path), too_large.
Result<std::string> read_whole_file(const std::string& path, std::size_t bytes_max);

// The lines of a file, one after the other. One owner.
class LineReader {
 public:
  LineReader(const std::string& path, std::size_t line_bytes_max);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  // False at the end; without the line break. Errors: io, too_large.
  Result<bool> next(std::string& line);

 private:
  const int descriptor_;
  const int open_error_;  // errno, where there is no descriptor
  const std::size_t line_bytes_max_;
  std::string buffer_;
  std::size_t at_ = 0;
  bool ended_ = false;
};

// A file that appears under its name with finish(), also after a power failure; what was there before stays until then.
// One owner.
class NewFile {
 public:
  explicit NewFile(std::string path);
  ~NewFile();  // without finish(): nothing of it stays
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  // Errors: io, with the path.
  Result<void> append(std::span<const std::byte> bytes);
  Result<void> finish();

 private:
  const std::string path_;
  const std::string beside_;
  const int descriptor_;
  const int open_error_;  // errno, where there is no descriptor
  bool finished_ = false;
};

// Errors: io.
Result<void> write_whole_file(const std::string& path, std::string_view bytes);

// Makes a rename or a new file of the folder durable. Errors: io.
Result<void> sync_folder(const std::string& folder);

}  // namespace outlast::gpu
