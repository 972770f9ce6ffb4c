// The token service in Go behind grpc-gateway.
//
// `gateway URL` asks the auth-api at URL, serves gRPC and, through a connection to that,
// HTTP, and prints where HTTP listens. benchmarks/gateway.py generates the package
// tokens from the schema and builds this program.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"bench/gateway/tokens"
)

const connections = 256

type service struct {
	tokens.UnimplementedTokenServiceServer
	client *http.Client
	url    string
}

func (s *service) ExchangeToken(
	ctx context.Context, in *tokens.ExchangeTokenRequest,
) (*tokens.ExchangeTokenResponse, error) {
	if in.GrantType != "client_credentials" {
		return nil, status.Error(codes.InvalidArgument, "unsupported_grant_type")
	}
	form := url.Values{"grant_type": {in.GrantType}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(in.ClientId, in.ClientSecret)
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, status.Error(codes.Unavailable, answer.Status)
	}
	var token struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int32  `json:"expires_in"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&token); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &tokens.ExchangeTokenResponse{
		AccessToken: token.AccessToken, TokenType: token.TokenType, ExpiresIn: token.ExpiresIn,
	}, nil
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

func main() {
	transport := &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections}
	server := grpc.NewServer()
	tokens.RegisterTokenServiceServer(
		server, &service{client: &http.Client{Transport: transport}, url: os.Args[1]})
	inner := listen()
	go server.Serve(inner)
	mux := runtime.NewServeMux()
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	err := tokens.RegisterTokenServiceHandlerFromEndpoint(
		context.Background(), mux, inner.Addr().String(), options)
	if err != nil {
		log.Fatal(err)
	}
	outer := listen()
	fmt.Printf("listening on %s\n", outer.Addr())
	log.Fatal(http.Serve(outer, mux))
}
