// A file system for RocksDB on which power can be lost: what was not synced is only in this
// process's memory, so that killing the process loses it, as a power cut loses the kernel's pages.
// And one whose syncs fail from a moment on.
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "core/random.hpp"

namespace outlast::storage {

struct LossyOptions {
  std::uint64_t seed = 1;
  // Where the names of files are that were created since their folder was last synced: after a
  // power cut they may be there or not.
  std::string names_file;
  std::int64_t syncs_until_error = -1;  // then each sync gives EIO; negative: never
};

class LossyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit LossyFileSystem(LossyOptions options)
      : FileSystemWrapper(rocksdb::FileSystem::Default()),
        options_(std::move(options)),
        random_(options_.seed),
        syncs_left_(options_.syncs_until_error) {}
  static const char* kClassName() { return "LossyFileSystem"; }
  const char* Name() const override { return kClassName(); }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* context) override {
    rocksdb::FileOptions plain = options;
    plain.use_mmap_writes = false;
    const rocksdb::IOStatus status =
        target()->NewWritableFile(name, plain, result, context);
    if (!status.ok()) return status;
    created(name);
    *result = std::make_unique<File>(*this, std::move(*result));
    return status;
  }
  rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* context) override {
    const rocksdb::IOStatus status = target()->NewDirectory(name, options, result, context);
    if (status.ok()) *result = std::make_unique<Directory>(*this, std::move(*result));
    return status;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* context) override {
    forget(from);
    return target()->RenameFile(from, to, options, context);
  }

 private:
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(LossyFileSystem& system, std::unique_ptr<rocksdb::FSWritableFile> file)
        : FSWritableFileOwnerWrapper(std::move(file)), system_(system) {}
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* context) override {
      pending_.append(data.data(), data.size());
      // The kernel may write some of it at any time, down to a torn record.
      const std::size_t early = system_.early(pending_.size());
      return write(early, options, context);
    }
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             const rocksdb::DataVerificationInfo&,
                             rocksdb::IODebugContext* context) override {
      return Append(data, options, context);
    }
    rocksdb::IOStatus Flush(const rocksdb::IOOptions&, rocksdb::IODebugContext*) override {
      return rocksdb::IOStatus::OK();
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
      if (system_.sync_fails()) return rocksdb::IOStatus::IOError("injected EIO on sync");
      return write(pending_.size(), options, context);
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* context) override {
      return Sync(options, context);
    }
    rocksdb::IOStatus RangeSync(std::uint64_t, std::uint64_t, const rocksdb::IOOptions&,
                                rocksdb::IODebugContext*) override {
      return rocksdb::IOStatus::OK();
    }
    rocksdb::IOStatus Close(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* context) override {
      const rocksdb::IOStatus status = write(pending_.size(), options, context);
      return status.ok() ? target()->Close(options, context) : status;
    }
    std::uint64_t GetFileSize(const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* context) override {
      return target()->GetFileSize(options, context) + pending_.size();
    }

   private:
    rocksdb::IOStatus write(std::size_t size, const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* context) {
      if (size == 0) return rocksdb::IOStatus::OK();
      const rocksdb::IOStatus status =
          target()->Append(rocksdb::Slice(pending_.data(), size), options, context);
      pending_.erase(0, size);
      return status;
    }
    LossyFileSystem& system_;
    std::string pending_;
  };

  class Directory final : public rocksdb::FSDirectoryWrapper {
   public:
    Directory(LossyFileSystem& system, std::unique_ptr<rocksdb::FSDirectory>&& directory)
        : FSDirectoryWrapper(std::move(directory)), system_(system) {}
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* context) override {
      if (system_.sync_fails()) return rocksdb::IOStatus::IOError("injected EIO on sync");
      system_.folder_synced();
      return FSDirectoryWrapper::Fsync(options, context);
    }
    rocksdb::IOStatus FsyncWithDirOptions(const rocksdb::IOOptions& options,
                                          rocksdb::IODebugContext* context,
                                          const rocksdb::DirFsyncOptions& how) override {
      if (system_.sync_fails()) return rocksdb::IOStatus::IOError("injected EIO on sync");
      system_.folder_synced();
      return FSDirectoryWrapper::FsyncWithDirOptions(options, context, how);
    }

   private:
    LossyFileSystem& system_;
  };

  std::size_t early(std::size_t pending) {
    const std::lock_guard lock(mutex_);
    return random_.below(4) == 0 ? random_.below(pending + 1) : 0;
  }
  bool sync_fails() {
    if (syncs_left_ < 0) return false;
    if (syncs_left_ == 0) return true;
    --syncs_left_;
    return false;
  }
  void created(const std::string& name) {
    const std::lock_guard lock(mutex_);
    names_.insert(name);
    write_names();
  }
  void forget(const std::string& name) {
    const std::lock_guard lock(mutex_);
    names_.erase(name);
    write_names();
  }
  void folder_synced() {
    const std::lock_guard lock(mutex_);
    names_.clear();
    write_names();
  }
  void write_names() {
    if (options_.names_file.empty()) return;
    std::ofstream file(options_.names_file, std::ios::trunc);
    for (const std::string& name : names_) file << name << '\n';
  }

  const LossyOptions options_;
  std::mutex mutex_;
  Random random_;
  std::set<std::string> names_;
  std::atomic<std::int64_t> syncs_left_;
};

}  // namespace outlast::storage
