// Peer: Go's net/http and pgx, one process. PORT, WORKERS (processors), POOL (connections for each), PG... of libpq.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

type Product struct {
	ID    int32     `json:"id"`
	Name  string    `json:"name"`
	Price float64   `json:"price"`
	Added time.Time `json:"added"`
}

type Article struct {
	ID         int64           `json:"id"`
	Code       string          `json:"code"`
	Name       string          `json:"name"`
	Price      float64         `json:"price"`
	Added      time.Time       `json:"added"`
	Changed    *time.Time      `json:"changed"`
	Attributes json.RawMessage `json:"attributes"`
	Sizes      []int32         `json:"sizes"`
	Tags       []string        `json:"tags"`
	Active     bool            `json:"active"`
	Released   Date            `json:"released"`
	Warranty   string          `json:"warranty"`
}

type Order struct {
	ID       int64 `json:"id"`
	Product  int32 `json:"product"`
	Quantity int32 `json:"quantity"`
}

// Date is a day without a time, in JSON as well.
type Date struct{ time.Time }

func (date Date) MarshalJSON() ([]byte, error) {
	return []byte(date.Format(`"2006-01-02"`)), nil
}

type service struct{ pool *pgxpool.Pool }

func (s service) product(ctx context.Context, read func(any) error) (any, error) {
	var arguments struct{ ID int32 }
	if err := read(&arguments); err != nil {
		return nil, err
	}
	var p Product
	err := s.pool.QueryRow(ctx, "SELECT id, name, price, added FROM products WHERE id = $1", arguments.ID).
		Scan(&p.ID, &p.Name, &p.Price, &p.Added)
	if errors.Is(err, pgx.ErrNoRows) {
		return map[string]any{"row": nil}, nil
	}
	return map[string]any{"row": &p}, err
}

func (s service) articles(ctx context.Context, read func(any) error) (any, error) {
	var arguments struct{ After, Count int64 }
	if err := read(&arguments); err != nil {
		return nil, err
	}
	// The interval is written by PostgreSQL: pgx 4 has no JSON of its own for it.
	rows, err := s.pool.Query(ctx, `
		SELECT id, code, name, price, added, changed, attributes, sizes, tags, active, released, warranty::text
		  FROM articles WHERE id > $1 ORDER BY id LIMIT $2`, arguments.After, arguments.Count)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make([]Article, 0, arguments.Count)
	for rows.Next() {
		var a Article
		if err := rows.Scan(&a.ID, &a.Code, &a.Name, &a.Price, &a.Added, &a.Changed, &a.Attributes, &a.Sizes, &a.Tags,
			&a.Active, &a.Released.Time, &a.Warranty); err != nil {
			return nil, err
		}
		found = append(found, a)
	}
	return map[string]any{"rows": found, "row_count": len(found)}, rows.Err()
}

func (s service) order(ctx context.Context, read func(any) error) (any, error) {
	var arguments struct {
		Product, Quantity int32
		Note              string
	}
	if err := read(&arguments); err != nil {
		return nil, err
	}
	var o Order
	err := s.pool.QueryRow(ctx, "INSERT INTO orders (product, quantity, note) VALUES ($1, $2, $3) "+
		"RETURNING id, product, quantity", arguments.Product, arguments.Quantity, arguments.Note).
		Scan(&o.ID, &o.Product, &o.Quantity)
	return map[string]any{"row": &o}, err
}

type query func(ctx context.Context, read func(any) error) (any, error)

func answer(run query) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := run(r.Context(), json.NewDecoder(r.Body).Decode)
		var text []byte
		if err == nil {
			text, err = json.Marshal(result)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
	}
}

func number(name string) int {
	value, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		log.Fatal(name, ": ", err)
	}
	return value
}

func main() {
	workers := number("WORKERS")
	runtime.GOMAXPROCS(workers)
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = int32(number("POOL") * workers)
	pool, err := pgxpool.ConnectConfig(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	s := service{pool}
	http.HandleFunc("/query/product", answer(s.product))
	http.HandleFunc("/query/articles", answer(s.articles))
	http.HandleFunc("/query/order", answer(s.order))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
