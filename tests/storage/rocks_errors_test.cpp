// What a start checks of RocksDB's files, while RocksDB goes on working on them.
#include <rocksdb/utilities/stackable_db.h>

#include "storage/rocks_errors.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::rocks_errors_test {
namespace {

// Finishes a compaction just after its files were listed.
class CompactsWhenListed final : public rocksdb::StackableDB {
 public:
  using StackableDB::StackableDB;
  void GetLiveFilesMetaData(std::vector<rocksdb::LiveFileMetaData>* files) override {
    StackableDB::GetLiveFilesMetaData(files);
    rocksdb::CompactRangeOptions compaction;
    compaction.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
    REQUIRE(CompactRange(compaction, nullptr, nullptr).ok());
  }
};

}  // namespace

TEST_CASE("a compaction as a store opens takes no file away from the check of its files",
          "[ledger]") {
  const TemporaryFolder folder;
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* opened = nullptr;
  REQUIRE(rocksdb::DB::Open(options, folder.path(), &opened).ok());
  CompactsWhenListed db(opened);
  for (int file = 0; file < 3; ++file) {
    REQUIRE(db.Put(rocksdb::WriteOptions(), "key", std::to_string(file)).ok());
    REQUIRE(db.Flush(rocksdb::FlushOptions()).ok());
  }
  const Result<void> checked = verify_newest_files(db, folder.path());
  INFO((checked ? std::string() : checked.error().message));
  CHECK(checked);
  std::size_t tables = 0;  // what is no longer needed goes after the check
  for (const auto& file : std::filesystem::directory_iterator(folder.path()))
    tables += file.path().extension() == ".sst";
  CHECK(tables == 1);
}

}  // namespace outlast::storage::rocks_errors_test
