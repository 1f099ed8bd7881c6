using System.Net;

namespace Ministries.Trust.Tests;

/// <summary>A call that meets a connection which is just being closed.</summary>
public sealed class ServiceChannelTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static readonly TheoryData<Exception> Closings =
    [
        new HttpRequestException("closed", new HttpProtocolException(0, "NO_ERROR", null)),
        new HttpRequestException("closed before it was ready"),
        new HttpRequestException("lost on the way", new IOException("reset")),
    ];

    [Theory]
    [MemberData(nameof(Closings))]
    public async Task A_call_that_crosses_a_connections_closing_is_made_again_at_most_twice(Exception closing)
    {
        foreach (var times in (int[])[1, 2])
        {
            var sender = new Sender([.. Enumerable.Repeat(closing, times), null]);
            using var client = new HttpMessageInvoker(ServiceChannel.AcrossClosing(sender));
            using var request = new HttpRequestMessage(HttpMethod.Post, "https://calllog.example/")
            {
                Content = new ByteArrayContent([1, 2]),
            };
            Assert.Equal(HttpStatusCode.OK, (await client.SendAsync(request, Cancel)).StatusCode);
            Assert.Equal(times + 1, sender.Sent);
        }
        var never = new Sender(closing, closing, closing, null);
        using var last = new HttpMessageInvoker(ServiceChannel.AcrossClosing(never));
        using var asked = new HttpRequestMessage(HttpMethod.Post, "https://calllog.example/");
        await Assert.ThrowsAsync<HttpRequestException>(() => last.SendAsync(asked, Cancel));
        Assert.Equal(3, never.Sent);
    }

    public static readonly TheoryData<Exception> Others =
    [
        new HttpRequestException("refused", new HttpProtocolException(2, "INTERNAL_ERROR", null)),
        new HttpRequestException("not trusted", new System.Security.Authentication.AuthenticationException("the certificate")),
    ];

    [Theory]
    [MemberData(nameof(Others))]
    public async Task Any_other_fault_is_its_callers(Exception fault)
    {
        var sender = new Sender(fault, null);
        using var client = new HttpMessageInvoker(ServiceChannel.AcrossClosing(sender));
        using var request = new HttpRequestMessage(HttpMethod.Post, "https://calllog.example/");
        Assert.Same(fault, await Assert.ThrowsAsync<HttpRequestException>(() => client.SendAsync(request, Cancel)));
        Assert.Equal(1, sender.Sent);
    }

    private sealed class Sender(params Exception?[] faults) : HttpMessageHandler
    {
        public int Sent { get; private set; }

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            faults[Sent++] is { } fault ? Task.FromException<HttpResponseMessage>(fault) : Task.FromResult(new HttpResponseMessage());
    }
}
