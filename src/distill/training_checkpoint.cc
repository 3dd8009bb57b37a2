// SPDX-License-Identifier: MIT
#include "distill/training_checkpoint.h"

namespace qwerky {
namespace {

constexpr const char* kFirst = "checkpoint.safetensors";
constexpr const char* kOthers = "optimiser-";
constexpr int64_t kMostRanks = 1 << 20;

std::string prefix(const Json& state) {
  return concat(kOthers, state.at("stage").get<int64_t>(), "-", state.at("step").get<int64_t>(), "-");
}
std::string file_name(const Json& state, int rank) {
  return rank == 0 ? kFirst : prefix(state) + std::to_string(rank) + ".safetensors";
}

}  // namespace

bool TrainingCheckpoint::is_in(const Path& dir) { return is_there(dir / kFirst); }

void TrainingCheckpoint::save(const Path& dir, Collective& ranks, Json state, const std::vector<NamedTensor>& tensors) {
  state["ranks"] = ranks.size();
  const auto write = [&] {
    write_safetensors(dir / file_name(state, ranks.rank()), tensors, {{"state", state.dump()}});
  };
  // The first rank's file names those of this moment that the others have already written; the older ones go last.
  if (!ranks.first()) write();
  ranks.wait();
  if (ranks.first()) {
    write();
    for (const std::string& name : list_names(dir))
      if (name.starts_with(kOthers) && !name.starts_with(prefix(state))) remove_tree(dir / name);
  }
  ranks.wait();
}

TrainingCheckpoint::TrainingCheckpoint(const Path& dir) : dir_(dir), file_(dir / kFirst), first_(file_) {
  const auto it = first_.metadata().find("state");
  if (it != first_.metadata().end()) state_ = parse_json(it->second, file_.string());
  if (!state_.is_object() || !state_.contains("settings"))
    fail(file_.string(), ": not a training checkpoint of this program");
}

int64_t TrainingCheckpoint::number(const char* key, int64_t most) const {
  const bool fine = state_.contains(key) && state_[key].is_number_integer() && state_[key].get<int64_t>() >= 0 &&
                    state_[key].get<int64_t>() <= most;
  if (!fine)
    fail(file_.string(), ": ", key, ": expected a number from 0 to ", most, ", found ",
         state_.contains(key) ? state_[key].dump() : "nothing");
  return state_[key].get<int64_t>();
}

void TrainingCheckpoint::each(const Params& params, const std::function<void(Range, const Find&)>& f) const {
  const auto ranks = static_cast<int>(number("ranks", kMostRanks));
  if (ranks < 1) fail(file_.string(), ": ranks: expected at least 1, found ", ranks);
  number("stage", INT64_MAX), number("step", INT64_MAX);  // which name the files
  for (int rank = 0; rank < ranks; ++rank) {
    const Range owned = params.owned(rank, ranks);
    if (owned.count == 0) continue;
    const Path path = dir_ / file_name(state_, rank);
    std::optional<SafetensorsFile> other;
    if (rank > 0) other.emplace(path);
    f(owned, [&](const char* name) {
      const Tensor t = (other ? *other : first_).find(name);
      if (!t || t.type != DType::f32 || t.count() != owned.count)
        fail(path.string(), ": tensor ", name, " is missing, is not f32, or has another size than the model needs");
      return t.shaped({owned.count});
    });
  }
}

void TrainingCheckpoint::read_weights(Params& params) const {
  each(params, [&](Range owned, const Find& find) { params.set(owned, find("masters")); });
}

}  // namespace qwerky
