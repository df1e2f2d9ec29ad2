// node subscriber.mjs localhost:9092 prints, after each message, what its account is in
import { randomUUID } from "node:crypto";
import { Kafka, logLevel } from "kafkajs";

const TYPES = ["segment.moved", "segment.entered", "segment.left", "account.state", undefined];
const newest = new Map(); // account -> Map: dimension, or what is said of all -> { order, said }
const isLater = (a, b) => !b || (a && (a.epoch - b.epoch || a.offset - b.offset || a.n - b.n) > 0);

function take(account, message) {
  const known = newest.get(account) ?? new Map();
  if (message === null) return known.delete(undefined); // a tombstone takes back what segment.memberships said
  const { type, data = message } = message;
  if (!TYPES.includes(type)) return;
  const about = data.dimension ?? type, order = data.position;
  const said = data.memberships ?? data.members ?? data.to;
  if (isLater(order, known.get(about)?.order)) newest.set(account, known.set(about, { order, said }));
}

function memberships(account) {
  const known = new Map(newest.get(account));
  const [stated, kept] = ["account.state", undefined].map((about) => known.get(about) ?? { said: {} });
  const whole = isLater(kept.order, stated.order) ? kept : stated;
  const now = {};
  for (const [name, each] of Object.entries(whole.said)) now[name] = whole === stated ? each.answer : each;
  for (const about of ["account.state", undefined]) known.delete(about);
  for (const [name, { order, said }] of known) if (isLater(order, whole.order)) now[name] = said;
  return now;
}

const [broker, prefix = ""] = process.argv.slice(2);
const kafka = new Kafka({ brokers: [broker], logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: `subscriber-${randomUUID()}` });
await consumer.connect();
const topics = ["segment.memberships", "segment.changes"].map((each) => prefix + each);
await consumer.subscribe({ topics, fromBeginning: true });
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ message }) => {
    const account = message.key.toString();
    take(account, message.value && JSON.parse(message.value));
    console.log(JSON.stringify([account, memberships(account)]));
  },
});
