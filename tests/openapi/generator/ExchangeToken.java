import karmo.ApiClient;
import karmo.ApiException;
import karmo.api.TokenServiceApi;
import karmo.model.ExchangeTokenResponse;
import karmo.model.ProblemDetails;

/** Gets a token and a problem from the server at the given URL, with the generated client. */
public class ExchangeToken {
  public static void main(String[] arguments) throws Exception {
    ApiClient client = new ApiClient();
    client.updateBaseUri(arguments[0]);
    TokenServiceApi api = new TokenServiceApi(client);
    String grant = "client_credentials";
    ExchangeTokenResponse token = api.exchangeToken(grant, "demo-partner", "demo-secret");
    try {
      api.exchangeToken(grant, "demo-partner", "wrong");
      throw new AssertionError("a wrong secret gets a token");
    } catch (ApiException error) {
      ProblemDetails problem =
          client.getObjectMapper().readValue(error.getResponseBody(), ProblemDetails.class);
      int lifetime = token.getExpiresIn();
      int status = problem.getStatus();
      System.out.printf(
          "{\"tokenType\": \"%s\", \"lifetime\": %d, \"code\": \"%s\", \"status\": %d}%n",
          token.getTokenType(), lifetime, problem.getKarmoCode(), status);
    }
  }
}
