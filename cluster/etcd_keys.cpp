#include "cluster/etcd_keys.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "core/check.hpp"

namespace outlast::cluster {
namespace {

constexpr std::size_t index_digits = 20;

std::string padded(std::uint64_t index) {
  char text[index_digits + 1];
  std::snprintf(text, sizeof(text), "%020llu", static_cast<unsigned long long>(index));
  return text;
}

bool parse_index(std::string_view digits, std::uint64_t& index) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  return error == std::errc{} && end == digits.data() + digits.size();
}

}  // namespace

bool EtcdKeys::is_name(std::string_view name) {
  constexpr std::size_t name_bytes_max = 128;
  return !name.empty() && name.size() <= name_bytes_max && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  });
}

EtcdKeys::EtcdKeys(std::string_view cluster) : root_("/outlast/" + std::string(cluster) + "/") {
  check(is_name(cluster), "a cluster's name is made of letters, digits, '-', '_' and '.'", cluster);
}

std::string EtcdKeys::batches_from(ShardId shard, std::uint64_t index) const { return log(shard) + padded(index); }

std::string EtcdKeys::batch(ShardId shard, std::uint64_t first, std::uint64_t next) const {
  check(first < next, "a batch has entries");
  return batches_from(shard, next - 1) + "-" + padded(first);
}

bool EtcdKeys::parse_batch_key(ShardId shard, std::string_view key, std::uint64_t& first, std::uint64_t& next) const {
  const std::string before = log(shard);
  if (!key.starts_with(before)) return false;
  key.remove_prefix(before.size());
  if (key.size() != 2 * index_digits + 1 || key[index_digits] != '-') return false;
  std::uint64_t last = 0;
  if (!parse_index(key.substr(0, index_digits), last) || !parse_index(key.substr(index_digits + 1), first))
    return false;
  next = last + 1;
  return first <= last && next != 0;
}

}  // namespace outlast::cluster
