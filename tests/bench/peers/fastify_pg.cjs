// Peer: Fastify and pg, a cluster of processes. PORT, WORKERS, POOL (connections of each process), PG... of libpq.
'use strict'

const cluster = require('node:cluster')
const { Pool, types } = require('pg')

const DATE = 1082
const INTERVAL = 1186

// pg's defaults but for two: a date would become a moment in the local time zone, an interval an object.
types.setTypeParser(DATE, (text) => text)
types.setTypeParser(INTERVAL, (text) => text)

const integer = { type: 'integer' }
const string = { type: 'string' } // int8 and numeric as well: pg leaves them as text
const moment = { type: 'string', format: 'date-time' }

// Fastify writes JSON faster when it knows the shape.
function shape (required, answer) {
  const object = (properties) => ({ type: 'object', properties })
  return {
    schema: {
      body: { ...object(required), required: Object.keys(required) },
      response: { 200: object(answer(object)) }
    }
  }
}

const product = shape({ id: integer }, (object) => ({
  row: { ...object({ id: integer, name: string, price: string, added: moment }), nullable: true }
}))

const articles = shape({ after: integer, count: integer }, (object) => ({
  rows: {
    type: 'array',
    items: object({
      id: string,
      code: string,
      name: string,
      price: string,
      added: moment,
      changed: { ...moment, nullable: true },
      attributes: { type: 'object', additionalProperties: true },
      sizes: { type: 'array', items: integer },
      tags: { type: 'array', items: string },
      active: { type: 'boolean' },
      released: string,
      warranty: string
    })
  },
  row_count: integer
}))

const order = shape({ product: integer, quantity: integer, note: string }, (object) => ({
  row: object({ id: string, product: integer, quantity: integer })
}))

function serve () {
  const app = require('fastify')({ logger: false })
  const pool = new Pool({ max: Number(process.env.POOL) })

  app.post('/query/product', product, async (request) => {
    const { rows } = await pool.query({
      name: 'product',
      text: 'SELECT id, name, price, added FROM products WHERE id = $1',
      values: [request.body.id]
    })
    return { row: rows.length ? rows[0] : null }
  })

  app.post('/query/articles', articles, async (request) => {
    const { rows } = await pool.query({
      name: 'articles',
      text: `SELECT id, code, name, price, added, changed, attributes, sizes, tags, active, released, warranty
               FROM articles WHERE id > $1 ORDER BY id LIMIT $2`,
      values: [request.body.after, request.body.count]
    })
    return { rows, row_count: rows.length }
  })

  app.post('/query/order', order, async (request) => {
    const { rows } = await pool.query({
      name: 'order',
      text: 'INSERT INTO orders (product, quantity, note) VALUES ($1, $2, $3) RETURNING id, product, quantity',
      values: [request.body.product, request.body.quantity, request.body.note]
    })
    return { row: rows[0] }
  })

  app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
}

if (cluster.isPrimary) {
  for (let worker = 0; worker < Number(process.env.WORKERS); worker++) cluster.fork()
} else {
  serve()
}
