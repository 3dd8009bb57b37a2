// SPDX-License-Identifier: MIT
#include "cli/eval_recall.h"

#include <chrono>
#include <functional>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "base/units.h"
#include "cli/command.h"
#include "cli/result.h"
#include "engine/fingerprint.h"
#include "eval/recall_model.h"
#include "eval/results_json.h"
#include "io/shards.h"

namespace qwerky {
namespace {

/// Tokens are shorter: so much text is always enough.
constexpr size_t kBytesPerToken = 16;

std::string haystack_text(const TextOptions& o, int64_t tokens) {
  CorpusOptions corpus{.field = o.field, .split_before = o.split_before};
  for (const std::string& input : o.data) corpus.inputs.emplace_back(input);
  const auto enough = static_cast<size_t>(tokens) * kBytesPerToken;
  std::string text;
  read_corpus(corpus, [&](std::string&& document) {
    text += document.substr(0, enough) + "\n\n";
    return text.size() < enough;
  });
  return text;
}

bool asked(const RecallOptions& o, const char* task) {
  return std::find(o.tasks.begin(), o.tasks.end(), task) != o.tasks.end();
}

std::string percent(double depth) { return concat(depth, " %"); }

/// One value of all cells of a task, a row for each depth and their mean.
void print_grid(const Recall& recall, const std::string& task, const std::string& title, double RecallCell::*value,
                double unit) {
  std::vector<int64_t> lengths;
  std::vector<double> depths;
  for (const RecallCell& cell : recall.cells) {
    if (cell.task != task) continue;
    if (std::find(lengths.begin(), lengths.end(), cell.length) == lengths.end()) lengths.push_back(cell.length);
    if (std::find(depths.begin(), depths.end(), cell.depth) == depths.end()) depths.push_back(cell.depth);
  }
  std::cout << "  " << title << "\n      depth";
  for (const int64_t length : lengths) std::cout << std::setw(9) << length;
  const auto print_row = [&](const std::string& name, const std::function<bool(const RecallCell&)>& in_row) {
    std::cout << "\n" << std::setw(11) << name;
    for (const int64_t length : lengths) {
      double sum = 0;
      int64_t samples = 0, wanted = 0;
      for (const RecallCell& cell : recall.cells) {
        if (cell.task != task || cell.length != length || !in_row(cell)) continue;
        sum += cell.*value * static_cast<double>(cell.samples);
        samples += cell.samples, wanted += cell.wanted;
      }
      std::ostringstream text;
      text << std::fixed << std::setprecision(unit == 1 ? 2 : 1);
      samples > 0 ? text << unit * sum / static_cast<double>(samples) : text << "-";
      if (samples > 0 && samples < wanted) text << "*";
      std::cout << std::setw(9) << text.str();
    }
  };
  for (const double depth : depths) print_row(percent(depth), [&](const RecallCell& c) { return c.depth == depth; });
  print_row("all", [](const RecallCell&) { return true; });
  std::cout << "\n";
}

void print_losses(const Recall& recall) {
  std::cout << "perplexity of the last " << recall.last_tokens << " tokens of texts, the same for every length\n"
            << "     length   perplexity   tokens scored\n"
            << std::fixed << std::setprecision(3);
  for (const LengthLoss& l : recall.by_length) {
    std::cout << std::setw(11) << l.length << std::setw(13);
    l.tokens > 0 ? std::cout << l.perplexity : std::cout << "-";
    std::cout << std::setw(16) << l.tokens << "\n";
  }
  std::cout << "perplexity by position in texts of " << recall.by_length.back().length << " tokens\n"
            << "  positions            perplexity   tokens scored\n";
  for (const PositionLoss& p : recall.by_position) {
    std::cout << "  " << std::left << std::setw(18) << concat(p.from, " to ", p.to - 1) << std::right << std::setw(13);
    p.tokens > 0 ? std::cout << p.perplexity : std::cout << "-";
    std::cout << std::setw(16) << p.tokens << "\n";
  }
}

}  // namespace

void add_recall_flags(Flags flags, RecallCommand& o) {
  flags
      .add_option(
          "--lengths",
          [&o](const std::vector<std::string>& texts) {
            o.recall.lengths.clear();
            for (const std::string& text : texts) o.recall.lengths.push_back(parse_length(text));
          },
          "passkey, niah, ppl_by_length: tokens of prompts and texts, such as 1k,4096,64k")
      .list()
      .with_default("1k,4k");
  flags.add_option("--depths", o.recall.depths, "passkey, niah: where needles are, in percent of the haystack")
      .list()
      .with_default();
  flags.add_option("--samples", o.recall.samples, "passkey, niah: needles a cell; ppl_by_length: most texts")
      .with_default()
      .between(1, 100000);
}

void print_recall(const RecallOptions& o, const Recall& recall) {
  for (const std::string& task : o.tasks) {
    if (task == "ppl_by_length") {
      print_losses(recall);
      continue;
    }
    std::cout << task << ": seed " << recall.seed << ", " << o.samples << " samples a cell\n";
    print_grid(recall, task, "% of samples whose greedy answer has the key (chance 0)", &RecallCell::generated, 100);
    print_grid(recall, task,
               concat("% whose right key gains most of ", kRecallKeys, " (chance ", 100 / kRecallKeys, ")"),
               &RecallCell::ranked, 100);
    print_grid(recall, task, "nats by which it gains more than the others (chance 0)", &RecallCell::margin, 1);
  }
}

RecallRun run_recall(const Engine& engine, const RecallCommand& command) {
  RecallCommand o = command;
  const Model& model = *engine.internals().model;
  check_lengths(engine, o.recall.lengths, o.max_length);
  const int64_t longest = *std::max_element(o.recall.lengths.begin(), o.recall.lengths.end());
  if (!o.text.data.empty() && (asked(o.recall, "niah") || asked(o.recall, "niah_multikey")))
    o.recall.haystack = haystack_text(o.text, longest);
  std::vector<int32_t> ids;
  if (asked(o.recall, "ppl_by_length")) {
    ids = read_ids(o.text, model.tokenizer.get(), engine.vocab()).at(0);
    o.recall.ids = ids;
  }

  if (!o.output.empty()) {
    o.recall.journal = Path(o.output) / "journal";
    o.recall.model_sha256 = model_fingerprint(engine);
  }

  const auto began = Clock::now();
  RecallProgress last{};
  Recall recall =
      measure_recall(o.recall, *model.tokenizer, recall_model(engine, o.share), [&](const RecallProgress& now) {
        const double seconds = seconds_since(began), rate = static_cast<double>(now.rows) / std::max(1e-9, seconds);
        std::string line = concat(now.task, "  ", now.length, " tokens  ", now.done, "/", now.wanted);
        if (seconds > 1)  // before, the rate is that of a cold start
          line += concat("  ", static_cast<int64_t>(rate), " tok/s  ETA ",
                         duration_text(static_cast<double>(now.total_rows - now.rows) / rate));
        say(line, false);
        last = now;
        return !interrupted();
      });
  const double seconds = seconds_since(began);
  say(concat("read ", last.rows, " tokens in ", duration_text(seconds)), true);

  return {std::move(recall), last.rows, seconds};
}

int evaluate_recall(const RecallCommand& o) {
  const Engine engine(o.model, o.engine);
  const auto [recall, tokens_read, seconds] = run_recall(engine, o);
  print_recall(o.recall, recall);
  if (recall.partial)
    std::cout << "partial: stopped before the end; * marks fewer samples than asked for, - none\n"
                 "the same command goes on (with --output)\n";
  Json json = to_json(recall);
  json["model"] = o.model;
  json["backend"] = engine.internals().backend->name();
  json["tokens_read"] = tokens_read;
  json["seconds"] = seconds;
  json["tasks"] = o.recall.tasks;
  json["data"] = o.text.data;
  write_result(o.json, json);
  if (!o.output.empty()) {
    const Path file =
        result_file(o.output, o.model, "recall",
                    std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
    write_file(file, json.dump(1) + "\n");
    say("results: " + file.string(), true);
  }
  return recall.partial ? kInterrupted : 0;
}

}  // namespace qwerky
