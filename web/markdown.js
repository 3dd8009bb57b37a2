// SPDX-License-Identifier: MIT
// ---- Markdown, built from text nodes
// Fenced code, headings, lists, `code`, **bold**, *italic*; all else stays as it was written. Blocks and inline pieces
// carry offsets into the source, so that one place of it (the first difference from another answer) can be marked in
// what is shown. Time is linear in the text, whatever it says.

const kInline = /`([^`\n]+)`|\*\*([^\s*](?:[^*\n]*[^\s*])?)\*\*|(?<![\w*])\*([^\s*](?:[^*\n]*[^\s*])?)\*/g;
// The word, or the character of a script without spaces, that the differing text begins with.
const kWord = /^\s*(?:[\u2e80-\uffff]|[^\s\u2e80-\uffff]{1,24})?/u;

/** Blocks of the source in order: {kind, start, from, to, …}: where the first line begins, and [from, to) of its text. */
function blocksOf(source) {
  const blocks = [];
  let open = null;  // the block that may go on
  let fence = "";   // what ends the code that is open
  let gap = false;  // an empty line before this one
  const begin = (block) => { blocks.push(block); open = block; };
  for (let start = 0; start < source.length;) {
    const newline = source.indexOf("\n", start), to = newline < 0 ? source.length : newline;
    const line = source.slice(start, to);
    let found;
    if (fence) {
      if (line.trim().startsWith(fence) && /^[`~]+$/.test(line.trim())) { fence = ""; open = null; } else open.to = to;
    } else if (line.trim() === "") {
      gap = true;
      if (open?.kind === "text") open = null;
    } else {
      if ((found = /^(`{3,}|~{3,})[ \t]*([\w+#.-]*)$/.exec(line.trim()))) {
        fence = found[1];
        begin({ kind: "code", start, from: to + 1, to: to + 1, language: found[2] });
      } else if ((found = /^(#{1,6})\s+/.exec(line))) {
        begin({ kind: "heading", start, from: start + found[0].length, to });
        open = null;
      } else if ((found = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+/.exec(line))) {
        if (open?.kind !== "list") begin({ kind: "list", start, items: [] });
        open.items.push({ depth: Math.min(found[1].length, 24), number: found[2], from: start + found[0].length, to });
      } else if (open?.kind === "list" && (!gap || /^\s/.test(line))) {
        open.items.at(-1).to = to;
      } else if (open?.kind === "text") {
        open.to = to;
      } else {
        begin({ kind: "text", start, from: start, to });
      }
      gap = false;
    }
    start = to + 1;
  }
  return blocks;
}

/** Appends source[from, to) and marks the word at mark.at (once, and no earlier). */
function putText(parent, source, from, to, mark) {
  if (mark === null || mark.done || mark.at >= to) return parent.append(source.slice(from, to));
  const at = Math.max(from, mark.at);
  const word = kWord.exec(source.slice(at, to))[0] || source.slice(at, at + 1);
  mark.done = true;
  parent.append(source.slice(from, at), el("mark", {}, word), source.slice(at + word.length, to));
}

function putInline(parent, source, from, to, mark) {
  let done = from;
  for (const found of source.slice(from, to).matchAll(kInline)) {
    const [all, code, bold] = found, start = from + found.index, edge = bold === undefined ? 1 : 2;
    putText(parent, source, done, start, mark);
    done = start + all.length;
    const node = el(code !== undefined ? "code" : bold !== undefined ? "strong" : "em");
    putText(node, source, start + edge, done - edge, mark);
    parent.append(node);
  }
  putText(parent, source, done, to, mark);
}

/** The items from `i` on that are at least as deep as the first of them, as one list; returns [list, next index]. */
function listOf(source, items, i, mark) {
  const { depth, number } = items[i];
  const list = el(number === undefined ? "ul" : "ol");
  while (i < items.length && items[i].depth >= depth) {
    if (list.lastChild && items[i].depth > depth + 1) {
      const [inner, next] = listOf(source, items, i, mark);
      list.lastChild.append(inner);
      i = next;
    } else {
      if ((items[i].number === undefined) !== (number === undefined)) break;
      const item = el("li");
      if (number !== undefined) item.value = Number(items[i].number);
      putInline(item, source, items[i].from, items[i].to, mark);
      list.append(item);
      ++i;
    }
  }
  return [list, i];
}

function blockNode(source, block, mark) {
  if (block.kind === "code") {
    const code = el("code");
    putText(code, source, block.from, block.to, mark);
    const pre = el("pre", { tabIndex: 0 }, code);
    if (block.language) pre.dataset.language = block.language;
    return pre;
  }
  if (block.kind === "list") {
    const lists = el("div");
    for (let i = 0; i < block.items.length;) {
      const [list, next] = listOf(source, block.items, i, mark);
      lists.append(list);
      i = next;
    }
    return lists.childElementCount === 1 ? lists.firstChild : lists;
  }
  const node = el(block.kind === "heading" ? "h3" : "p");
  putInline(node, source, block.from, block.to, mark);
  return node;
}

/** Shows `source` in `parent`; blocks that did not change keep their nodes, and with them the reader's selection. */
function putMarkdown(parent, source, markAt) {
  const blocks = blocksOf(source);
  let old = parent.firstChild;
  blocks.forEach((block, i) => {
    const end = i + 1 < blocks.length ? blocks[i + 1].start : Infinity;
    const mark = markAt >= (i ? block.start : 0) && markAt < end ? { at: markAt, done: false } : null;
    const key = `${mark ? markAt - block.start : ""}|${block.kind}|${source.slice(block.start, end)}`;
    if (old?.source !== key) {
      const node = blockNode(source, block, mark);
      if (mark && !mark.done) node.append(el("mark", {}, "end"));
      node.source = key;
      parent.insertBefore(node, old);
      const gone = old;
      old = node;
      gone?.remove();
    }
    old = old.nextSibling;
  });
  while (old) {
    const gone = old;
    old = old.nextSibling;
    gone.remove();
  }
}
