// Reads an AsyncAPI document from standard input, prints what the official parser has to say of it as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const said = diagnostics.map(({ severity, path, message, code }) => ({ severity, path: path.join("."), message, code }));
const channels = document?.channels().all().map((each) => ({
  address: each.address(),
  messages: each.messages().all().map((message) => message.id()),
}));
console.log(JSON.stringify({ channels, said }));
