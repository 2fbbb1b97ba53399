// Package snippets has what the Go blocks of the documents use without declaring it.
// The checks compile the blocks in this package; each of them gets these imports.
package snippets

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtotel"
	"github.com/vtclient/vtclient/interop/vtprom"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

var (
	ctx                             context.Context
	url, key, jobID, addr, hostname string

	client    *vtclient.Client
	mux       *http.ServeMux
	webhook   *vtclient.Webhook
	transport *http.Transport
	requests  metric.Int64Counter
	readOne   func(vtclient.Answer) (vtclient.Status, error)
	readMany  func(vtclient.Answer) ([]vtclient.Status, string, error)
	sdk       SDK

	rdb       *redis.Client
	learnt    *vtredis.Learnt
	job       vtclient.Job
	store     func(context.Context, vtclient.Status, error) error
	heartbeat func(context.Context, time.Duration) (stop func())

	videos []Video
)

// A Video is one to be translated, and the key of its order.
type Video struct {
	Key     string
	Request vtclient.HeyGenRequest
}

// A Result is what a backend's terminal answer holds.
type Result struct{ VideoURL string }

// An SDK stands for a backend's own client.
type SDK interface {
	GetJob(ctx context.Context, id string) (*SDKJob, error)
	IsNotFound(error) bool
}

// An SDKJob is what that client returns.
type SDKJob struct {
	Done       bool
	ResultJSON []byte
}

// Activities are those of a workflow engine.
type Activities struct{ client *vtclient.Client }
