// Renders an OpenAPI 3.1 document as a list of endpoints by tag.
"use strict";

const root = document.getElementById("api");

function add(parent, name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  parent.append(node);
  return node;
}

// shape writes a schema the way its values look, with what is said about each member.
function shape(doc, schema, indent, seen) {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    if (seen.includes(name)) return "…";
    return shape(doc, doc.components.schemas[name], indent, [...seen, name]);
  }
  if (schema.anyOf) return schema.anyOf.map((one) => shape(doc, one, indent, seen)).join(" or ");
  const types = [].concat(schema.type || "anything");
  const orNull = types.length > 1 && types.includes("null") ? " or null" : "";
  if (types[0] === "object" && schema.properties) {
    const inner = indent + "  ";
    const lines = Object.entries(schema.properties).map(([name, member]) => {
      const needed = (schema.required || []).includes(name) ? "" : "?";
      const said = member.description || (member.$ref && "") || "";
      return `${inner}${name}${needed}: ${shape(doc, member, inner, seen)}${said ? `  // ${said}` : ""}`;
    });
    return `{\n${lines.join("\n")}\n${indent}}${orNull}`;
  }
  if (types[0] === "object" && schema.additionalProperties) return `{ any name: ${shape(doc, schema.additionalProperties, indent, seen)} }${orNull}`;
  if (types[0] === "array") return `[${shape(doc, schema.items, indent, seen)}, …]${orNull}`;
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ") + orNull;
  return (schema.format && schema.format !== "double" && schema.format !== "int64" ? `${types[0]} (${schema.format})` : types[0]) + orNull;
}

function limits(schema) {
  const parts = [].concat(schema.items || schema).flatMap((s) => [
    s.enum && s.enum.join(", "), s.minimum !== undefined && s.minimum !== 0 && `from ${s.minimum}`, s.maximum !== undefined && s.maximum < 2 ** 53 && `to ${s.maximum}`,
    s.maxLength && `at most ${s.maxLength} bytes`, s.default !== undefined && `otherwise ${s.default}`,
  ]);
  return parts.filter(Boolean).join("; ");
}

function parameters(body, list) {
  add(body, "h3", {}, "Parameters");
  const table = add(add(body, "div", { class: "scroll" }), "table", { class: "list" });
  const rows = add(table, "tbody");
  for (const p of list) {
    const row = add(rows, "tr");
    add(add(row, "td"), "code", {}, p.name);
    add(row, "td", { class: "quiet" }, `${p.in}${p.required ? ", needed" : ""}`);
    add(row, "td", { class: "quiet" }, [p.schema.type, p.schema.format].filter((x) => x && x !== "int64").join(" "));
    const said = limits(p.schema);
    add(row, "td", { class: "wrap" }, p.description + (said ? ` (${said})` : ""));
  }
}

function content(doc, body, holder) {
  for (const [type, media] of Object.entries(holder.content || {})) {
    if (!media.schema || (media.schema.type === "string" && !media.schema.enum)) {
      add(body, "p", { class: "quiet" }, type);
      continue;
    }
    add(body, "pre", { class: "shape", "aria-label": type }, shape(doc, media.schema, "", []));
  }
}

function fill(doc, body, operation) {
  const facts = [`Open to: ${operation["x-access"].join(", ")}`];
  if (operation["x-contract"]) facts.push(`section ${operation["x-contract"]} of the contract`);
  add(body, "p", { class: "quiet" }, facts.join("; "));
  if (operation.parameters) parameters(body, operation.parameters);
  if (operation.requestBody) {
    add(body, "h3", {}, "Body");
    add(body, "p", { class: "quiet" }, operation.requestBody.description);
    content(doc, body, operation.requestBody);
  }
  add(body, "h3", {}, "Answers");
  for (const [status, answer] of Object.entries(operation.responses)) {
    add(body, "p", {}, add(document.createDocumentFragment(), "code", {}, status), ` ${answer.description}`);
    if (status < 300) content(doc, body, answer);
  }
}

function endpoint(doc, group, method, path, operation) {
  const details = add(group, "details", { class: "endpoint", id: operation.operationId });
  details.dataset.text = `${method} ${path} ${operation.summary}`.toLowerCase();
  add(details, "summary", {}, add(document.createDocumentFragment(), "span", { class: "method" }, method.toUpperCase()),
    add(document.createDocumentFragment(), "span", { class: "path" }, path), add(document.createDocumentFragment(), "span", { class: "does" }, operation.summary));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) fill(doc, add(details, "div", { class: "body" }), operation);
  });
}

function search(input) {
  const words = input.value.toLowerCase().split(/\s+/);
  for (const group of root.querySelectorAll(".api-group")) {
    let found = 0;
    for (const one of group.querySelectorAll(".endpoint")) {
      one.hidden = !words.every((word) => one.dataset.text.includes(word));
      found += !one.hidden;
    }
    group.hidden = found === 0;
  }
}

function show(doc) {
  const input = add(root, "input", { type: "search", class: "api-find", placeholder: "Find an endpoint", "aria-label": "Find an endpoint" });
  input.addEventListener("input", () => search(input));
  const place = (tag) => ["millrace", tag.name, "ui", "operations"].indexOf(tag.name);
  for (const tag of [...doc.tags].sort((a, b) => place(a) - place(b))) {
    const group = add(root, "section", { class: "api-group", id: `tag-${tag.name}` });
    add(group, "h2", {}, tag.name);
    for (const [path, operations] of Object.entries(doc.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        if (operation.tags.includes(tag.name)) endpoint(doc, group, method, path, operation);
      }
    }
  }
  const linked = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (linked) {
    linked.open = true;
    linked.scrollIntoView();
  }
}

fetch(root.dataset.source)
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`status ${answer.status}`))))
  .then(show)
  .catch((error) => add(root, "p", { class: "hint" }, `The description cannot be loaded (${error.message}). Load the page again.`));
