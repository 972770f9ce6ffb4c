import com.google.protobuf.ByteString;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.DynamicMessage;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.reflection.v1.ServerReflectionGrpc;
import io.grpc.reflection.v1.ServerReflectionRequest;
import io.grpc.reflection.v1.ServerReflectionResponse;
import io.grpc.reflection.v1.ServiceResponse;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;

/**
 * Calls a server by grpc-java, with the schema that its reflection gives.
 *
 * <p>Arguments: the address, the client id and the client secret.
 */
class Exchange {
  static final String SERVICE = "karmo.auth.v1.TokenService";

  public static void main(String[] arguments) throws Exception {
    var channel =
        Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    var list = ServerReflectionRequest.newBuilder().setListServices("").build();
    var services =
        ask(channel, list).getListServicesResponse().getServiceList().stream()
            .map(ServiceResponse::getName)
            .sorted()
            .collect(Collectors.joining(" "));
    System.out.println("services: " + services);
    var health = HealthGrpc.newBlockingStub(channel).check(HealthCheckRequest.getDefaultInstance());
    System.out.println("health: " + health.getStatus());
    try {
      System.out.println("token: " + exchange(channel, arguments[1], arguments[2]));
    } catch (StatusRuntimeException error) {
      System.out.println(error.getStatus().getCode() + ": " + error.getStatus().getDescription());
    }
    channel.shutdownNow();
  }

  static String exchange(Channel channel, String id, String secret) throws Exception {
    var method = findService(channel).findServiceByName("TokenService").getMethods().get(0);
    Descriptor input = method.getInputType();
    var request =
        DynamicMessage.newBuilder(input)
            .setField(input.findFieldByName("grant_type"), "client_credentials")
            .setField(input.findFieldByName("client_id"), id)
            .setField(input.findFieldByName("client_secret"), secret)
            .build();
    var call =
        MethodDescriptor.<DynamicMessage, DynamicMessage>newBuilder()
            .setType(MethodType.UNARY)
            .setFullMethodName(SERVICE + "/" + method.getName())
            .setRequestMarshaller(ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(input)))
            .setResponseMarshaller(
                ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(method.getOutputType())))
            .build();
    var token = ClientCalls.blockingUnaryCall(channel, call, CallOptions.DEFAULT, request);
    Descriptor output = method.getOutputType();
    return token.getField(output.findFieldByName("token_type"))
        + " "
        + token.getField(output.findFieldByName("expires_in"));
  }

  static FileDescriptor findService(Channel channel) throws Exception {
    var question = ServerReflectionRequest.newBuilder().setFileContainingSymbol(SERVICE).build();
    var files = ask(channel, question).getFileDescriptorResponse().getFileDescriptorProtoList();
    Map<String, FileDescriptorProto> protos = new HashMap<>();
    for (ByteString file : files) {
      FileDescriptorProto proto = FileDescriptorProto.parseFrom(file);
      protos.put(proto.getName(), proto);
    }
    return build(FileDescriptorProto.parseFrom(files.get(0)).getName(), protos);
  }

  static FileDescriptor build(String name, Map<String, FileDescriptorProto> protos)
      throws Exception {
    var proto = protos.get(name);
    var imports = new FileDescriptor[proto.getDependencyCount()];
    for (int number = 0; number < imports.length; number++) {
      imports[number] = build(proto.getDependency(number), protos);
    }
    return FileDescriptor.buildFrom(proto, imports);
  }

  static ServerReflectionResponse ask(Channel channel, ServerReflectionRequest question)
      throws Exception {
    var answer = new CompletableFuture<ServerReflectionResponse>();
    var questions =
        ServerReflectionGrpc.newStub(channel)
            .serverReflectionInfo(
                new StreamObserver<>() {
                  @Override
                  public void onNext(ServerReflectionResponse response) {
                    answer.complete(response);
                  }

                  @Override
                  public void onError(Throwable error) {
                    answer.completeExceptionally(error);
                  }

                  @Override
                  public void onCompleted() {}
                });
    questions.onNext(question);
    var response = answer.get();
    questions.onCompleted();
    return response;
  }
}
