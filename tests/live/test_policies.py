"""``gateway check`` and row-level security: which policies of a real server are asked for every row."""

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres.policies import asked_per_row
from tests.live.databases import connect, soon

SQL = """
CREATE SCHEMA judged;
CREATE TABLE judged.a (tenant int);
CREATE TABLE judged.b (tenant int);
CREATE POLICY slow ON judged.a USING (tenant = current_setting('app.tenant', true)::int);
CREATE POLICY mixed ON judged.a USING (
    tenant = (SELECT nullif(current_setting('app.tenant', true), '')::int) OR current_setting('app.all', true) = 'x');
CREATE POLICY quick ON judged.b USING (tenant = (SELECT nullif(current_setting('app.tenant', true), '')::int));
CREATE POLICY written ON judged.b FOR INSERT WITH CHECK (tenant = current_setting('app.tenant', true)::int);
"""


def test_policies_that_ask_for_every_row_are_found(cluster: Cluster) -> None:
    cluster.primary.sql(SQL, shop.DATABASE)
    connection = connect(shop.dsn(cluster.primary))
    try:
        assert list(asked_per_row(connection, soon())) == [("judged.a", "mixed"), ("judged.a", "slow")]
    finally:
        connection.close()
        cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA judged CASCADE", shop.DATABASE)
