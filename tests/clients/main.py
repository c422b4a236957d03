"""Calls the sample shop with the client that was generated from its document; prints what it was told as JSON."""

import json
import sys

from shop import Client
from shop.api.queries import create_order, orders_of_customer
from shop.models import (
    CreateOrderArguments,
    CreateOrderResult,
    OrdersOfCustomerArguments,
    OrdersOfCustomerResult,
    Problem,
)

client = Client(base_url=sys.argv[1])

orders = orders_of_customer.sync(client=client, body=OrdersOfCustomerArguments(customer_id=7, max_rows=2))
assert isinstance(orders, OrdersOfCustomerResult), orders
made = create_order.sync(client=client, body=CreateOrderArguments(customer_id=7), idempotency_key=sys.argv[2])
assert isinstance(made, CreateOrderResult), made
refused = orders_of_customer.sync(client=client, body=OrdersOfCustomerArguments(customer_id=7, max_rows=0))
assert isinstance(refused, Problem), refused
told = {
    "totals": [row.total for row in orders.rows],
    "outcome": made.outcome,
    "status": made.row.status if made.row else None,
    "code": refused.code,
    "faults": [fault.parameter for fault in refused.errors],
}
print(json.dumps(told))
