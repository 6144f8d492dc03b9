// Clock answers with the time in UTC, or with that of ?at=SECONDS.
package main

import (
	"fmt"
	"log"
	"net/http"
	"strconv"
	"time"
)

func told(at string, now time.Time) (string, error) {
	if at == "" {
		return now.UTC().Format(time.RFC3339), nil
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return "", fmt.Errorf("at: %q is no number of seconds", at)
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339), nil
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		text, err := told(r.URL.Query().Get("at"), time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, text)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
