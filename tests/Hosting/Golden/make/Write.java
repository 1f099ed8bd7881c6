import com.google.protobuf.TextFormat;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import ministries.calllog.v1.CalllogService.LogCallRequest;

/** The request of request.textproto, as Java's library writes it. */
public final class Write {
    public static void main(String[] args) throws Exception {
        LogCallRequest.Builder request = LogCallRequest.newBuilder();
        TextFormat.merge(new InputStreamReader(System.in, StandardCharsets.UTF_8), request);
        request.build().writeTo(System.out);
        System.out.flush();
    }
}
