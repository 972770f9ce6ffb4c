// Install: com.nimbusds:oauth2-oidc-sdk:11.39 with Maven or Gradle. Tested with Java 17.
// Run: java -cp 'lib/*' Token.java, with the library and what it needs in lib.
import com.nimbusds.oauth2.sdk.*;
import com.nimbusds.oauth2.sdk.auth.*;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import java.io.IOException;
import java.net.URI;
import java.time.Instant;

public class Token {
    private static final URI URL = URI.create("http://127.0.0.1:8080/v1/oauth/token");
    private static final ClientAuthentication CLIENT = new ClientSecretBasic(
        new ClientID(System.getenv("CLIENT_ID")), new Secret(System.getenv("CLIENT_SECRET")));
    private static AccessToken kept;
    private static Instant renewal = Instant.MIN;

    static synchronized AccessToken token() throws GeneralException, IOException {
        if (Instant.now().isBefore(renewal)) return kept;
        var grant = new ClientCredentialsGrant();
        var request = new TokenRequest.Builder(URL, CLIENT, grant).build().toHTTPRequest();
        request.setConnectTimeout(10_000);
        request.setReadTimeout(30_000);
        var response = request.send();
        int code = response.getStatusCode();
        if (code != 200) throw new GeneralException("HTTP " + code, ErrorObject.parse(response));
        kept = AccessTokenResponse.parse(response).getTokens().getAccessToken();
        renewal = Instant.now().plusSeconds(kept.getLifetime() - 60);
        return kept;
    }

    public static void main(String[] arguments) throws Exception {
        try {
            System.out.printf(
                "%s token, valid for %d s%n", token().getType(), token().getLifetime());
        } catch (GeneralException refused) {
            var problem = refused.getErrorObject();
            if (problem == null || problem.getCode() == null) throw refused;
            var more = problem.getCustomParams();
            System.err.println(problem.getCode() + ", karmoCode " + more.get("karmoCode") + ": "
                + more.getOrDefault("detail", more.get("title")));
            System.exit(1);
        }
    }
}
