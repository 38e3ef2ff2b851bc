package rpc_test

import (
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

func TestCheckTarget(t *testing.T) {
	for _, good := range []string{
		"127.0.0.1:4010", "ml-engine:4010", "ml-engine.desk.svc.cluster.local:4010", "[::1]:4010", "[fe80::1%eth0]:4010", "dns:///ml-engine:4010",
		"dns://10.0.0.1/ml-engine:4010", "dns:ml-engine:4010", "passthrough:///127.0.0.1:1", "unix:/run/x.sock", "unix:x.sock", "unix:///run/x.sock", "unix-abstract:x",
	} {
		if err := rpc.CheckTarget(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", " ", "ml-engine", "http://127.0.0.1:4010", "https://ml-engine:4010/", "tcp://127.0.0.1:4010", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:grpc",
		":4010", "dns:///ml-engine", "dns:///", "unix:", "unix://", "unix://host/path", "::1:4010", "a b:4010", "user@host:4010", "host/path:4010", "host:4010/path",
	} {
		if err := rpc.CheckTarget(bad); err == nil || !strings.Contains(err.Error(), "want host:port") {
			t.Errorf("%q: got %v, want the form that is expected", bad, err)
		}
	}
}
