module observer/grafana

go 1.21

// Apache-2.0. Its source is fetched when this is built, for the tests alone: nothing of it is in what is shipped.
require github.com/grafana/grafana-foundation-sdk/go v0.0.22
