package lifecycle_test

import (
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/lifecycle"
)

func TestCheckListen(t *testing.T) {
	for addr, want := range map[string]struct{ grpc, http bool }{
		"127.0.0.1:4010": {true, true}, ":4010": {true, true}, "[::1]:0": {true, true}, "unix:x.sock": {true, false},
		"": {}, "127.0.0.1": {}, "http://127.0.0.1:4010": {}, "127.0.0.1:x": {}, "127.0.0.1:70000": {}, "unix:": {}, "unix-abstract:x": {},
	} {
		for grpc, want := range map[bool]bool{true: want.grpc, false: want.http} {
			err := lifecycle.CheckListen(addr, "--x-addr", grpc)
			if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "--x-addr") {
				t.Errorf("%q, for gRPC %t: got %v, want it good: %t", addr, grpc, err, want)
			}
		}
	}
}
