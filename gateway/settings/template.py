"""What ``gateway init`` writes: a settings file that explains itself, and a first query."""

SETTINGS_TEMPLATE = """\
# pg-query-gateway. Every line that begins with "# " and a key shows that key's default.
#
# The environment beats this file: GATEWAY_SERVER__WORKERS=4 is [server] workers, and
# GATEWAY_ENDPOINTS__PRIMARY__DSN=... is [endpoints.primary] dsn.
# Durations are "250ms", "5s", "2m", "1h"; sizes are "64kB", "1MB". Relative paths count from this file's folder.
# `gateway check` says what is wrong with this file and the queries, and prepares every query on every server.

[server]
# bind = "127.0.0.1:8080"      # several: ["127.0.0.1:8080", "unix:/run/gateway.sock"]
# reuse_port = false           # true: several gateways may listen on one port (SO_REUSEPORT)
# workers = 0                  # processes; 0: one a processor
# worker = "gateway"           # hundreds of requests at a time; or "gthread", or "sync": one at a time
# threads = 8                  # requests at a time in each process (gthread only)
# max_body = "1MB"             # a longer request body is refused
# max_result_bytes = "64MB"    # a longer answer is refused
# timeout = "5s"               # deadline of a query without @timeout
# max_batch = 1000             # objects in an array body, steps in a transaction
# prepared = 200               # statements kept prepared per connection
# time_zone = "UTC"            # of every session
# head_timeout = "5s"          # in which the head of a request must have come
# body_timeout = "10s"         # in which its body must have come, and its answer be taken; 64 kB buy a second
# idle_timeout = "75s"         # a connection without a request is closed after this
# certfile = ""                # TLS to clients: the server's certificate chain,
# keyfile = ""                 # its key,
# client_ca = ""               # and, if clients must show a certificate, who may sign it
# trusted_proxies = []         # addresses or networks whose X-Forwarded-* headers are believed
# verbose_errors = false       # true: answers may show SQL and the server's details
# runtime_dir = ""             # shared state of the processes; default: a private folder in memory-backed storage

[catalogue]
# paths = ["queries"]          # files and folders of *.sql

# One table for each PostgreSQL server, primaries and replicas alike: the gateway asks them what they are.
[endpoints.primary]
dsn = "host=127.0.0.1 dbname=postgres user=postgres"
# password = ""                # better: password_file
# password_file = ""           # a file with nothing but the password
# dsn_file = ""                # or the whole dsn in a file, instead of dsn
# prepare = true               # false behind a transaction pooler such as PgBouncer

# Connections with one purpose. A query runs in the group its @group names, else in `read` or `write` by what it does.
[groups.read]
# access = "read"              # the default is "write" for the group called write
# endpoints = ["primary"]      # default: every endpoint
# fallback = "primary"         # reads go to replicas; when none may answer: "primary" or "none"
# size = 16                    # connections of all processes together (8 where access is "write")
# queue = 256                  # requests that may wait for a connection

[groups.write]
# access = "write"
# size = 8

[idempotency]
# retention = "24h"            # how long the answer to an Idempotency-Key is kept; `gateway init-db` makes the table

[auth]
# mode = "none"                # nobody is asked who they are; serves loopback and unix sockets only,
# allow_anonymous = false      # unless this is true
"""

FIRST_QUERY = """\
-- name: hello(name)^
-- A first query: one row. Try it with
--   curl 'http://127.0.0.1:8080/query/hello?name=you'
-- @param name text = "world" maxLength=100 -- who is greeted
SELECT 'Hello, ' || :name || '!' AS greeting, now() AS at;
"""
