// SPDX-License-Identifier: MIT
#include "engine/state_cache.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "io/state_file.h"

namespace qwerky {
namespace {

constexpr std::string_view kCached = ".state", kNamed = ".named";
constexpr size_t kHex = 32;  ///< digits of a SHA-256 in names of files
constexpr size_t kMostUnwritten = 16;

std::string hash_of(const std::string& text) { return sha256(text).substr(0, kHex); }

/// Hashes of the first 0, 1, … ids of an owner's text: one chain.
std::vector<uint64_t> links_of(const std::string& owner, std::span<const int32_t> ids) {
  std::vector<uint64_t> links{hash_name(owner)};
  for (const int32_t id : ids) links.push_back(mix64(links.back() ^ (uint64_t{1} + static_cast<uint32_t>(id))));
  return links;
}

void check_name(const std::string& name) {
  bool good = !name.empty() && name.size() <= 128 && std::ranges::none_of(name, [](unsigned char c) {
    return c < 0x20 || c == 0x7f || c == '/' || c == '\\';
  });
  try {
    Json(name).dump();
  } catch (const Json::exception&) {
    good = false;
  }
  if (!good)
    fail("name of a state: expected UTF-8 of 1 to 128 bytes without slashes, backslashes and control characters");
}

SnapshotPtr snapshot_of(StateContents&& file) {
  return std::make_shared<const Snapshot>(Snapshot{std::move(file.ids), std::move(file.state), std::move(file.logits)});
}

}  // namespace

struct StateCache::Internals {
  struct Entry {
    std::string owner;     ///< its hash
    int64_t length;        ///< in tokens
    uint64_t link;         ///< of owner and ids
    SnapshotPtr snapshot;  ///< null: on disk only
    std::string file;      ///< empty: in memory only
    int64_t file_bytes = 0;
    bool to_write = false;  ///< waits for the writer, outside the memory budget
    bool is_named = false;  ///< a named state, which has a place of its own on disk
  };
  using Entries = std::list<Entry>;  // the latest used first
  struct Named {
    SnapshotPtr snapshot;  ///< where there is no folder
    int64_t bytes = 0;
    std::weak_ptr<const Snapshot> read = {};  ///< from its file, as long as somebody uses it
  };

  const StateCacheOptions options;
  std::unique_ptr<DirectoryLock> lock;
  std::mutex naming;  ///< one use of named states at a time; taken before `mutex`

  mutable std::mutex mutex;  ///< guards what follows
  Entries entries;
  std::multimap<std::pair<int64_t, uint64_t>, Entries::iterator> index;  ///< by length and link
  std::map<std::pair<std::string, std::string>, Named> named;            ///< by hash of the owner and name
  std::deque<Entries::iterator> unwritten;                               ///< the first is being written
  StateCacheCounts counts;
  int64_t last_number = 0;
  bool stopping = false;
  std::condition_variable wake, idle;
  std::thread writer;

  explicit Internals(const StateCacheOptions& o) : options(o) {}

  Path path(const std::string& file) const { return options.folder / file; }
  bool on_disk() const { return !options.folder.empty(); }
  std::string file_of(const std::string& owner, const std::string& what, std::string_view kind) const {
    return concat(owner, '-', hash_of(options.model + '\n' + what), kind);
  }
  std::string file_of(const Entry& e) const { return file_of(e.owner, concat(e.length, ' ', e.link), kCached); }

  void scan();
  SnapshotPtr find(const std::string& owner, std::span<const int32_t> ids, const Lengths& wanted, bool* restored);
  void keep(const std::string& owner, SnapshotPtr snapshot, bool is_named);
  Entries::iterator locate(const std::string& owner, std::span<const int32_t> ids, std::span<const uint64_t> links,
                           const Lengths& wanted);
  Entries::iterator at(const std::string& owner, std::span<const int32_t> ids, uint64_t link);
  void add(Entry entry);
  void erase(Entries::iterator e);
  bool queue(Entries::iterator e);
  void fit_memory();
  void fit_disk();
  void write_all();
  void write(std::unique_lock<std::mutex>& held, Entries::iterator e, int64_t number);
  void write_kept(std::chrono::steady_clock::time_point end);
  StateContents read_own(const std::string& file, const std::string& owner, const std::string& name) const;
};

/// The index of the folder. Files that are no states of this model stay where they are.
void StateCache::Internals::scan() {
  std::map<int64_t, Entry> by_number;
  for (const std::string& file : list_names(options.folder)) {
    const bool is_named = file.ends_with(kNamed);
    if (!is_named && !file.ends_with(kCached)) continue;
    try {
      const StateContents found = read_state_label(path(file));
      const StateLabel& l = found.label;
      const uint64_t link = links_of(l.owner, found.ids).back();
      Entry e{l.owner, static_cast<int64_t>(found.ids.size()), link, nullptr, file, bytes_under(path(file))};
      if (l.model != options.model || file != (is_named ? file_of(l.owner, l.name, kNamed) : file_of(e)))
        fail(file, ": not a state of this model");
      last_number = std::max(last_number, l.number);
      if (is_named) {
        named[{l.owner, l.name}] = {nullptr, e.file_bytes};
        counts.named_bytes += e.file_bytes;
      } else {
        by_number.insert_or_assign(l.number, std::move(e));
      }
    } catch (const Error&) {
      ++counts.unusable;
    }
  }
  for (auto& [number, e] : by_number) {
    counts.disk_bytes += e.file_bytes;
    add(std::move(e));
  }
  fit_disk();
}

/// A file that is what its name says.
StateContents StateCache::Internals::read_own(const std::string& file, const std::string& owner,
                                              const std::string& name) const {
  StateContents out = read_state(path(file));
  if (out.label.model != options.model || out.label.owner != owner || out.label.name != name)
    fail(path(file).string(), ": the state in it is another one than its name says");
  return out;
}

void StateCache::Internals::add(Entry entry) {
  entries.push_front(std::move(entry));
  index.emplace(std::pair{entries.front().length, entries.front().link}, entries.begin());
}

void StateCache::Internals::erase(Entries::iterator e) {
  auto [at, end] = index.equal_range({e->length, e->link});
  index.erase(std::find_if(at, end, [&](const auto& item) { return item.second == e; }));
  entries.erase(e);
}

/// What has read `ids`, as far as memory can tell: the ids of a file are compared when it has been read.
StateCache::Internals::Entries::iterator StateCache::Internals::at(const std::string& owner,
                                                                   std::span<const int32_t> ids, uint64_t link) {
  for (auto [at, end] = index.equal_range({static_cast<int64_t>(ids.size()), link}); at != end; ++at) {
    const Entry& e = *at->second;
    if (e.owner == owner && (e.snapshot == nullptr || std::ranges::equal(e.snapshot->ids, ids))) return at->second;
  }
  return entries.end();
}

/// The longest beginning, by the lengths there are.
StateCache::Internals::Entries::iterator StateCache::Internals::locate(const std::string& owner,
                                                                       std::span<const int32_t> ids,
                                                                       std::span<const uint64_t> links,
                                                                       const Lengths& wanted) {
  const auto whole = static_cast<int64_t>(ids.size());
  for (auto next = index.lower_bound({whole + 1, 0}); next != index.begin();) {
    const int64_t length = std::prev(next)->first.first;
    const auto n = static_cast<size_t>(length);
    const auto e = at(owner, ids.first(n), links[n]);
    if (e != entries.end() && (length < whole || e->snapshot == nullptr || !e->snapshot->logits.empty()) &&
        (e->is_named || !wanted || wanted(length)))
      return e;
    next = index.lower_bound({length, 0});
  }
  return entries.end();
}

SnapshotPtr StateCache::Internals::find(const std::string& owner, std::span<const int32_t> ids, const Lengths& wanted,
                                        bool* restored) {
  const std::vector<uint64_t> links = links_of(owner, ids);
  std::span<const int32_t> candidates = ids;
  std::unique_lock held(mutex);
  while (true) {
    auto e = locate(owner, candidates, links, wanted);
    if (e == entries.end()) break;
    SnapshotPtr snapshot = e->snapshot;
    if (restored != nullptr) *restored = e->is_named;
    const auto read = ids.first(static_cast<size_t>(e->length));
    if (snapshot == nullptr) {
      const std::string file = e->file;
      held.unlock();
      try {
        snapshot = snapshot_of(read_own(file, owner, ""));
      } catch (const Error&) {
      }
      const bool usable = snapshot != nullptr && std::ranges::equal(snapshot->ids, read) &&
                          (read.size() < ids.size() || !snapshot->logits.empty());
      held.lock();
      e = at(owner, read, links[read.size()]);  // it may be gone meanwhile, or in memory
      if (snapshot == nullptr && e != entries.end() && e->file == file && e->snapshot == nullptr) {
        ++counts.unusable;
        counts.disk_bytes -= e->file_bytes;
        erase(e);
      }
      if (!usable) {
        if (read.empty()) break;
        candidates = read.first(read.size() - 1);
        continue;
      }
      if (e != entries.end() && e->snapshot == nullptr) {
        e->snapshot = snapshot;
        counts.bytes += snapshot->bytes();
      }
    }
    if (e != entries.end()) entries.splice(entries.begin(), entries, e);
    fit_memory();
    ++counts.hits;
    counts.tokens_reused += static_cast<int64_t>(read.size());
    return snapshot;
  }
  ++counts.misses;
  return nullptr;
}

void StateCache::Internals::keep(const std::string& owner, SnapshotPtr snapshot, bool is_named) {
  const uint64_t link = links_of(owner, snapshot->ids).back();
  const std::lock_guard held(mutex);
  if (const auto known = at(owner, snapshot->ids, link); known != entries.end()) {
    entries.splice(entries.begin(), entries, known);
    if (known->snapshot == nullptr || known->to_write) return;
    // The first stays, unless the new one can do more. A text that was read comes before a state that was restored.
    const bool more =
        known->is_named == is_named ? known->snapshot->logits.empty() && !snapshot->logits.empty() : known->is_named;
    if (!more) return;
    counts.bytes += snapshot->bytes() - known->snapshot->bytes();
    known->snapshot = std::move(snapshot);
    known->is_named = is_named;
  } else {
    const int64_t bytes = snapshot->bytes();
    add({.owner = owner,
         .length = static_cast<int64_t>(snapshot->ids.size()),
         .link = link,
         .snapshot = std::move(snapshot),
         .file = {},
         .is_named = is_named});
    if (bytes > options.memory_bytes) {  // no reason to push out all others
      if (!queue(entries.begin())) erase(entries.begin());
      return;
    }
    counts.bytes += bytes;
  }
  fit_memory();
}

/// Gives an entry to the writer. False: there is nothing to write or no folder, or it is too far behind.
bool StateCache::Internals::queue(Entries::iterator e) {
  if (!on_disk() || e->is_named) return false;
  if (unwritten.size() >= kMostUnwritten) {
    ++counts.unwritten;
    return false;
  }
  e->to_write = true;
  unwritten.push_back(e);
  wake.notify_one();
  return true;
}

void StateCache::Internals::fit_memory() {
  for (auto e = entries.end(); counts.bytes > options.memory_bytes && e != entries.begin();) {
    --e;
    if (e->snapshot == nullptr || e->to_write) continue;
    counts.bytes -= e->snapshot->bytes();
    ++counts.evictions;
    if (!e->file.empty()) {
      e->snapshot = nullptr;
    } else if (!queue(e)) {
      const auto gone = e++;
      erase(gone);
    }
  }
}

void StateCache::Internals::fit_disk() {
  for (auto e = entries.end(); counts.disk_bytes > options.disk_bytes && e != entries.begin();) {
    --e;
    if (e->file.empty()) continue;
    try {
      remove_tree(path(e->file));
    } catch (const Error&) {
      continue;  // it takes its room until it can be removed
    }
    counts.disk_bytes -= e->file_bytes;
    e->file.clear();
    if (e->snapshot == nullptr) {
      const auto gone = e++;
      erase(gone);
    }
  }
}

/// The thread that writes.
void StateCache::Internals::write_all() {
  std::unique_lock held(mutex);
  while (true) {
    wake.wait(held, [&] { return stopping || !unwritten.empty(); });
    if (unwritten.empty()) return;
    write(held, unwritten.front(), ++last_number);
    unwritten.pop_front();
    idle.notify_all();
  }
}

/// An entry that is `to_write`; without the lock meanwhile.
void StateCache::Internals::write(std::unique_lock<std::mutex>& held, Entries::iterator e, int64_t number) {
  const Entry job = *e;
  const std::string file = file_of(job);
  const StateLabel label{options.model, job.owner, "", number};
  held.unlock();
  int64_t bytes = 0;
  try {
    bytes = write_state(path(file), label, job.snapshot->ids, *job.snapshot->state, job.snapshot->logits);
  } catch (const Error&) {
  }
  held.lock();
  if (bytes == 0) {
    ++counts.unwritten;
    return erase(e);
  }
  e->snapshot = nullptr;
  e->to_write = false;
  e->file = file;
  e->file_bytes = bytes;
  counts.disk_bytes += bytes;
  fit_disk();
}

void StateCache::Internals::write_kept(std::chrono::steady_clock::time_point end) {
  std::unique_lock held(mutex);
  int64_t room = options.disk_bytes;
  std::vector<Entries::iterator> kept;
  for (auto e = entries.begin(); e != entries.end(); ++e) {
    if (e->is_named) continue;
    room -= e->file.empty() ? e->snapshot->bytes() : e->file_bytes;
    if (room < 0) break;
    if (!e->file.empty() || e->to_write) continue;
    e->to_write = true;
    counts.bytes -= e->snapshot->bytes();
    kept.push_back(e);
  }
  // After a restart a higher number means used later.
  int64_t number = last_number += static_cast<int64_t>(kept.size());
  for (const auto& e : kept) {
    if (std::chrono::steady_clock::now() < end) {
      write(held, e, number--);
    } else {
      ++counts.unwritten;
      erase(e);
    }
  }
}

StateCache::StateCache(const StateCacheOptions& options) : internals_(std::make_unique<Internals>(options)) {
  Internals& in = *internals_;
  if (!in.on_disk()) return;
  in.lock = std::make_unique<DirectoryLock>(options.folder, Readers::owner);
  in.scan();
  in.writer = std::thread([&in] { in.write_all(); });
}

StateCache::~StateCache() {
  Internals& in = *internals_;
  {
    const std::lock_guard held(in.mutex);
    in.stopping = true;
    in.wake.notify_one();
  }
  if (in.writer.joinable()) in.writer.join();
}

SnapshotPtr StateCache::find(const std::string& owner, std::span<const int32_t> ids, const Lengths& wanted,
                             bool* restored) {
  return internals_->find(hash_of(owner), ids, wanted, restored);
}

int64_t StateCache::memory_bytes() const { return internals_->options.memory_bytes; }

void StateCache::keep(const std::string& owner, SnapshotPtr snapshot) {
  internals_->keep(hash_of(owner), std::move(snapshot), false);
}

void StateCache::flush() {
  std::unique_lock held(internals_->mutex);
  internals_->idle.wait(held, [&] { return internals_->unwritten.empty(); });
}

void StateCache::write_kept(std::chrono::steady_clock::time_point end) {
  if (internals_->on_disk()) internals_->write_kept(end);
}

void StateCache::save(const std::string& owner, const std::string& name, SnapshotPtr snapshot) {
  check_name(name);
  Internals& in = *internals_;
  const std::string hash = hash_of(owner);
  const int64_t budget = in.on_disk() ? in.options.disk_bytes : in.options.memory_bytes;
  const std::lock_guard alone(in.naming);
  Internals::Named fresh{in.on_disk() ? nullptr : snapshot, snapshot->bytes()};
  StateLabel label{in.options.model, hash, name, 0};
  {
    const std::lock_guard held(in.mutex);
    const auto old = in.named.find({hash, name});
    int64_t own = 0;
    for (const auto& [key, state] : in.named)
      if (key.first == hash) own += state.bytes;
    int64_t most = budget - (in.counts.named_bytes - own);
    if (in.options.fair) most = std::max(most / 2, own);  // what is there may be replaced
    own -= old == in.named.end() ? 0 : old->second.bytes;
    if (own + fresh.bytes > most)
      throw NoRoom(concat("state ", name, ": there is no room for its ", fresh.bytes, " bytes beside the ", own,
                          " of your other states; remove some"));
    label.number = ++in.last_number;
  }
  if (in.on_disk())
    fresh.bytes =
        write_state(in.path(in.file_of(hash, name, kNamed)), label, snapshot->ids, *snapshot->state, snapshot->logits);
  const std::lock_guard held(in.mutex);
  Internals::Named& place = in.named[{hash, name}];
  in.counts.named_bytes += fresh.bytes - place.bytes;
  place = std::move(fresh);
}

SnapshotPtr StateCache::load(const std::string& owner, const std::string& name) {
  Internals& in = *internals_;
  const std::string hash = hash_of(owner);
  const std::lock_guard alone(in.naming);
  {
    const std::lock_guard held(in.mutex);
    const auto found = in.named.find({hash, name});
    if (found == in.named.end()) return nullptr;
    if (found->second.snapshot) return found->second.snapshot;
    if (SnapshotPtr read = found->second.read.lock()) return read;
  }
  SnapshotPtr snapshot = snapshot_of(in.read_own(in.file_of(hash, name, kNamed), hash, name));
  const std::lock_guard held(in.mutex);
  in.named.at({hash, name}).read = snapshot;  // only under `naming` does a name go
  return snapshot;
}

SnapshotPtr StateCache::restore(const std::string& owner, const std::string& name) {
  SnapshotPtr snapshot = load(owner, name);
  if (snapshot) internals_->keep(hash_of(owner), snapshot, true);
  return snapshot;
}

bool StateCache::remove(const std::string& owner, const std::string& name) {
  Internals& in = *internals_;
  const std::string hash = hash_of(owner);
  const std::lock_guard alone(in.naming);
  const std::lock_guard held(in.mutex);
  const auto found = in.named.find({hash, name});
  if (found == in.named.end()) return false;
  if (in.on_disk()) remove_tree(in.path(in.file_of(hash, name, kNamed)));
  in.counts.named_bytes -= found->second.bytes;
  in.named.erase(found);
  return true;
}

std::vector<std::string> StateCache::names(const std::string& owner) {
  const std::string hash = hash_of(owner);
  const std::lock_guard held(internals_->mutex);
  std::vector<std::string> names;
  for (const auto& [key, state] : internals_->named)
    if (key.first == hash) names.push_back(key.second);
  return names;
}

StateCacheCounts StateCache::counts() const {
  const std::lock_guard held(internals_->mutex);
  StateCacheCounts counts = internals_->counts;
  for (const auto& e : internals_->entries) {
    counts.entries += e.snapshot != nullptr ? 1 : 0;
    counts.disk_entries += e.file.empty() ? 0 : 1;
  }
  counts.named = static_cast<int64_t>(internals_->named.size());
  return counts;
}

}  // namespace qwerky
