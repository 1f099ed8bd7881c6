using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>How a service speaks with a witness (C2SP tlog-witness).</summary>
internal static class WitnessClient
{
    /// <summary>A client of a witness. An answer may be as long as a signed note. The caller disposes of it.</summary>
    /// <param name="witness">The witness.</param>
    /// <param name="certificate">The service's certificate, asked for at each connection.</param>
    /// <param name="authorities">The authorities that vouch for the witness.</param>
    /// <param name="patience">How long connecting may take.</param>
    /// <param name="time">The clock.</param>
    public static HttpClient Open(
        Witness witness,
        Func<X509Certificate2> certificate,
        Func<Authorities> authorities,
        TimeSpan patience,
        TimeProvider time
    ) =>
        new(ServiceChannel.HandlerOf(witness.Participant, certificate, authorities, patience, time))
        {
            BaseAddress = new Uri(witness.Address),
            MaxResponseContentBufferSize = SignedNote.MaxLength,
            DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionOrLower,
        };

    /// <summary>Asks a witness for the checkpoint of a log that it cosigned last.</summary>
    /// <param name="client">The witness.</param>
    /// <param name="origin">The log's origin.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>The status, and what was sent with it.</returns>
    /// <exception cref="HttpRequestException">It cannot be reached, or sends more than a signed note.</exception>
    public static async Task<(HttpStatusCode Status, string Text)> GetCheckpoint(HttpClient client, string origin, CancellationToken cancel)
    {
        var log = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(origin)));
        using var answer = await client.GetAsync(new Uri($"{log}/checkpoint", UriKind.Relative), cancel);
        return (answer.StatusCode, await TextOf(answer, cancel));
    }

    /// <summary>An answer's text. It is read as UTF-8, whatever character set it claims to have.</summary>
    public static async Task<string> TextOf(HttpResponseMessage answer, CancellationToken cancel) =>
        Encoding.UTF8.GetString(await answer.Content.ReadAsByteArrayAsync(cancel));
}
