// Calls the sample shop with the types that were generated from its document; prints what it was told as JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
declare const console: { log(text: string): void };

type Row = components["schemas"]["OrdersOfCustomerRow"];

const client = createClient<paths>({ baseUrl: process.argv[2]! });

const orders = await client.POST("/query/orders_of_customer", { body: { customer_id: 7, max_rows: 2 } });
if (orders.error) throw new Error(orders.error.detail);
const rows: Row[] = orders.data.rows;

const made = await client.POST("/query/create_order", {
  params: { header: { "Idempotency-Key": process.argv[3]! } },
  body: { customer_id: 7 },
});
if (made.error) throw new Error(made.error.detail);
const outcome: components["schemas"]["Outcome"] = made.data.outcome;

const refused = await client.POST("/query/orders_of_customer", { body: { customer_id: 7, max_rows: 0 } });
console.log(
  JSON.stringify({
    totals: rows.map((row) => row.total),
    outcome,
    status: made.data.row?.status ?? null,
    code: refused.error?.code ?? null,
    faults: refused.error?.errors.map((fault) => fault.parameter) ?? [],
  }),
);
