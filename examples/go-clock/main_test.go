package main

import (
	"testing"
	"time"
)

func TestTold(t *testing.T) {
	now := time.Date(2001, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	for at, want := range map[string]string{"": "2001-02-03T03:05:06Z", "86400": "1970-01-02T00:00:00Z"} {
		if got, err := told(at, now); err != nil || got != want {
			t.Errorf("told(%q) = %q, %v; want %q", at, got, err, want)
		}
	}
	if _, err := told("soon", now); err == nil {
		t.Error("told(\"soon\") is no error")
	}
}
