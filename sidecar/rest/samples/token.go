// Install: go get golang.org/x/oauth2@v0.38.0. Tested with Go 1.26.
// Before that, in a new folder: go mod init token. Run: go run token.go
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	config := clientcredentials.Config{
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: os.Getenv("CLIENT_SECRET"),
		TokenURL:     "http://127.0.0.1:8080/v1/oauth/token",
		AuthStyle:    oauth2.AuthStyleInHeader, // Or a refused request would be sent twice.
	}
	limited := &http.Client{Timeout: 30 * time.Second}
	source := config.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient, limited))
	for range 2 { // The source keeps the token until 10 seconds before it expires.
		token, err := source.Token()
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.ErrorCode != "" {
			var problem struct{ KarmoCode, Title, Detail string }
			json.Unmarshal(refused.Body, &problem)
			detail := cmp.Or(problem.Detail, problem.Title)
			log.Fatalf("%s, karmoCode %s: %s", refused.ErrorCode, problem.KarmoCode, detail)
		} else if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s token, valid for %.0f s\n", token.Type(), time.Until(token.Expiry).Seconds())
	}
}
