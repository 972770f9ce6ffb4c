// Command sample exchanges client credentials for a token by gRPC, and decodes a failure.
//
//	CLIENT_ID=demo-partner CLIENT_SECRET=demo-secret go run . 127.0.0.1:50051
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	authv1 "karmo/sample/gen/karmo/auth/v1"
	problemv1 "karmo/sample/gen/karmo/problem/v1"
)

// gRPC itself repeats the call, and obeys the delay that the service asks for.
const serviceConfig = `{"methodConfig": [{
	"name": [{"service": "karmo.auth.v1.TokenService"}],
	"retryPolicy": {
		"maxAttempts": 4, "initialBackoff": "0.2s", "backoffMultiplier": 3, "maxBackoff": "2s",
		"retryableStatusCodes": ["UNAVAILABLE"]
	}
}]}`

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: CLIENT_ID=... CLIENT_SECRET=... sample HOST:PORT")
		os.Exit(2)
	}
	token, err := exchange(os.Args[1], os.Getenv("CLIENT_ID"), os.Getenv("CLIENT_SECRET"))
	if err != nil {
		explain(err)
		os.Exit(1)
	}
	fmt.Println("a token for", token.GetExpiresIn(), "seconds")
}

func exchange(target, id, secret string) (*authv1.ExchangeTokenResponse, error) {
	// Without TLS. Otherwise: credentials.NewTLS of google.golang.org/grpc/credentials.
	transport := grpc.WithTransportCredentials(insecure.NewCredentials())
	conn, err := grpc.NewClient(target, transport, grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return authv1.NewTokenServiceClient(conn).ExchangeToken(ctx, &authv1.ExchangeTokenRequest{
		GrantType:    "client_credentials",
		ClientId:     id,
		ClientSecret: secret,
	})
}

// explain prints the code of a failed call, and the details of its status, if it has any.
func explain(err error) {
	failure := status.Convert(err)
	fmt.Println(failure.Code(), failure.Message())
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *problemv1.ProblemDetails:
			fmt.Println("karmoCode:", detail.GetKarmoCode(), "HTTP status:", detail.GetStatus())
		case *errdetails.ErrorInfo:
			fmt.Println("reason:", detail.GetReason())
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				fmt.Println("field:", violation.GetField(), violation.GetDescription())
			}
		case *errdetails.RetryInfo:
			fmt.Println("try again after:", detail.GetRetryDelay().AsDuration())
		case *errdetails.RequestInfo:
			fmt.Println("request id:", detail.GetRequestId())
		}
	}
}
