// SPDX-License-Identifier: MIT
// A recipe is a list of stages, and a stage is data: which loss, what trains, how many tokens, which rates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"

namespace qwerky {

struct Stage {
  std::string name;
  std::string loss = "align";  ///< align | kl | cross_entropy
  double next_token = 0;       ///< with kl: adds so much of the cross-entropy of the next token
  std::string train = "*";     ///< glob over parameter names
  int64_t tokens = 1'000'000;
  int64_t context = 512;  ///< tokens of a training window
  int64_t batch = 32;     ///< windows of a step
  double lr = 1e-3, lr_final = 1e-5;
  std::string schedule = "flat";             ///< flat | cosine | quarter_cosine | linear (from lr to lr_final)
  double hold = 0;                           ///< share of the stage at `lr` before the schedule begins
  double until = 1;                          ///< share of the stage at which `lr_final` is reached
  std::string mixer_glob = "*.self_attn.*";  ///< parameters that use the mixer rates
  double mixer_lr = 0, mixer_lr_final = 0;   ///< 0: as lr, lr_final
  int64_t warmup = 50;                       ///< steps of linear warm-up from 1 %
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  double clip = 1;              ///< gradient norm; 0: none
  int64_t lanes = 2;            ///< groups of windows whose gradients are summed in order
  int64_t windows_at_once = 0;  ///< of a lane, whose activations are in memory together; 0: all
  bool recompute = false;       ///< keep only layer inputs; recompute the rest on the way back
  int64_t passes = 1;           ///< times the stage goes over its windows; `tokens` counts all passes
  bool cache_targets = false;   ///< align: keep the teacher's values on disk for the passes after the first
  double average_from = 1;      ///< weights are averaged over the steps after this share of the stage
  bool refit_output = false;    ///< solve the mixers' output projection again before the stage begins

  template <class V>
  void visit(V& v) {
    v("name", name, "name in logs");
    v("loss", loss, "align | kl | cross_entropy");
    v("next_token", next_token, "with kl: weight of the next token's cross-entropy beside it");
    v("train", train, "glob over parameter names, alternatives separated by |");
    v("tokens", tokens, "training tokens");
    v("context", context, "tokens of a window");
    v("batch", batch, "windows of a step");
    v("lr", lr, "learning rate");
    v("lr_final", lr_final, "rate at the end");
    v("schedule", schedule, "flat | cosine | quarter_cosine | linear");
    v("hold", hold, "share of the stage before the schedule begins");
    v("until", until, "share of the stage at which lr_final is reached");
    v("mixer_glob", mixer_glob, "parameters that use the mixer rates");
    v("mixer_lr", mixer_lr, "rate of the mixers (0: lr)");
    v("mixer_lr_final", mixer_lr_final, "their rate at the end (0: lr_final)");
    v("warmup", warmup, "steps of linear warm-up");
    v("beta1", beta1, "AdamW");
    v("beta2", beta2, "AdamW");
    v("eps", eps, "AdamW");
    v("weight_decay", weight_decay, "AdamW");
    v("clip", clip, "gradient norm (0: none)");
    v("lanes", lanes, "groups of windows whose gradients are summed in order");
    v("windows_at_once", windows_at_once, "windows of a lane in memory together (0: all)");
    v("recompute", recompute, "keep only layer inputs");
    v("passes", passes, "times the stage goes over its windows");
    v("cache_targets", cache_targets, "align: keep the teacher's values on disk between passes");
    v("average_from", average_from, "share of the stage after which weights are averaged");
    v("refit_output", refit_output, "solve the output projections before the stage");
  }
  int64_t steps() const { return std::max<int64_t>(1, tokens / (batch * context)); }
  /// Steps with windows of their own; later passes repeat them.
  int64_t unique_steps() const { return (steps() + passes - 1) / passes; }
  /// Rate at `step` (from 0); `mixer` selects the mixer rates.
  double rate(int64_t step, bool mixer) const;
  void check() const;
};

struct Recipe {
  std::string name;
  std::string init = "calibrated";     ///< published | calibrated | random
  int64_t calibration_tokens = 16384;  ///< of the corpus, for a calibrated start
  double half_life_scale = 1;          ///< multiplies measured look-back half-lives
  double rate_bias = -2;               ///< a0 of RAD-RWKV7
  double ridge = 1e-3;                 ///< of the output projection's least squares
  bool untie = false;     ///< give the student of a tied teacher a head of its own, as the published trainer does
  double rank_scale = 1;  ///< multiplies the published ranks of the low-rank matrices
  uint64_t seed = 1;
  std::vector<Stage> stages;

  template <class V>
  void visit(V& v) {
    v("name", name, "name of the recipe");
    v("init", init, "published | calibrated | random");
    v("calibration_tokens", calibration_tokens, "tokens for a calibrated start");
    v("half_life_scale", half_life_scale, "multiplies measured half-lives");
    v("rate_bias", rate_bias, "initial a0 of RAD-RWKV7");
    v("ridge", ridge, "regularisation of the output fit");
    v("untie", untie, "give the student of a tied teacher a head of its own");
    v("rank_scale", rank_scale, "multiplies the published ranks");
    v("seed", seed, "seed of initial values and data order");
    v("stages", stages, "list of stages");
  }
  void check() const;
};

/// A built-in recipe by name, or a file, with `set` applied ("stages.1.lr=3e-4") and checked.
Recipe load_recipe(const std::string& name, const std::vector<std::string>& set);
/// The same from JSON; `where` is the place for messages.
Recipe parse_recipe(Json json, const std::vector<std::string>& set, const std::string& where);

}  // namespace qwerky
